"""Rows as in HuggingFaceTB/smoltalk2, subset SFT: template variables in a struct with nullable fields."""

import pyarrow as pa

TURN = pa.struct([("content", pa.string()), ("role", pa.string())])
VARIABLES = pa.struct(
    [
        ("custom_instructions", pa.string()),
        ("enable_thinking", pa.bool_()),
        ("python_tools", pa.list_(pa.string())),
        ("xml_tools", pa.list_(pa.string())),
    ]
)
SCHEMA = pa.schema([("messages", pa.list_(TURN)), ("chat_template_kwargs", VARIABLES), ("source", pa.string())])

TABLE = pa.Table.from_pylist(
    [
        {
            "messages": [
                {"content": "Do lamps hum? ", "role": "user"},
                {"content": "<think>\nSome do.\n</think>\nSome – yes", "role": "assistant"},
            ],
            "chat_template_kwargs": {
                "custom_instructions": "",
                "enable_thinking": True,
                "python_tools": None,
                "xml_tools": None,
            },
            "source": "mine_think",
        },
        {
            "messages": [
                {"content": "Be brief.", "role": "system"},
                {"content": "¿Luz?", "role": "user"},
                {"content": "Sí", "role": "assistant"},
            ],
            "chat_template_kwargs": {
                "custom_instructions": "Be brief.",
                "enable_thinking": False,
                "python_tools": [],
                "xml_tools": ['{"name": "lamp", "parameters": {}}'],
            },
            "source": "mine_no_think",
        },
    ],
    SCHEMA,
)
