"""Rows as in openbmb/RLAIF-V-Dataset: the image is in the row, as bytes."""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("ds_name", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("question", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("origin_dataset", pa.string()),
        ("origin_split", pa.string()),
        ("idx", pa.int64()),
        ("image_path", pa.string()),
    ]
)
TABLE = pa.Table.from_pylist(
    [
        {
            "ds_name": "mine", "image": {"bytes": b"\x89PNG\x00", "path": None}, "question": "What is on the wall? ",
            "chosen": "A clock.", "rejected": "A dog.", "origin_dataset": "mine", "origin_split": "{}", "idx": 0,
            "image_path": "a.png",
        },
        {
            "ds_name": "mine", "image": {"bytes": b"\xff\xd8", "path": "b.jpg"}, "question": "Où ?",
            "chosen": "Au café\n", "rejected": "", "origin_dataset": "mine", "origin_split": None, "idx": 1,
            "image_path": None,
        },
    ],
    SCHEMA,
)  # fmt: skip
