"""Output: formats, shards that appear whole or not at all, folders and files that are published at once."""

from ..errors import ReaderGone
from .card import card, check_split
from .durable import make_folder, write_whole
from .encoders import COMPRESSIONS, FORMATS, PARQUET_COMPRESSIONS, Encoder, Sink, parquet_schema
from .folder import OutputFolder, copy
from .parts import PARTS, TAG, TAG_TYPE, read_part
from .shard import AtomicFile, RejectWriter, ShardWriter
from .single_file import SingleFile, Stream, check_compression, file_ending, format_of, is_stream, staging_folder
from .staging import (
    Lock,
    finished,
    parts_folder,
    plan_path,
    prepare,
    receipt,
    receipt_path,
    rejects_path,
    run_fingerprint,
    spool_folder,
    staged_path,
    write_receipt,
)

__all__ = [
    "COMPRESSIONS",
    "FORMATS",
    "PARQUET_COMPRESSIONS",
    "PARTS",
    "TAG",
    "TAG_TYPE",
    "AtomicFile",
    "Encoder",
    "Lock",
    "OutputFolder",
    "ReaderGone",
    "RejectWriter",
    "ShardWriter",
    "SingleFile",
    "Sink",
    "Stream",
    "card",
    "check_compression",
    "check_split",
    "copy",
    "file_ending",
    "finished",
    "format_of",
    "is_stream",
    "make_folder",
    "parquet_schema",
    "parts_folder",
    "plan_path",
    "prepare",
    "read_part",
    "receipt",
    "receipt_path",
    "rejects_path",
    "run_fingerprint",
    "spool_folder",
    "staged_path",
    "staging_folder",
    "write_receipt",
    "write_whole",
]
