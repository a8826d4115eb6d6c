"""Output: formats, shards that appear whole or not at all, folders and files that are published at once."""

from ..errors import ReaderGone
from .card import card, check_split
from .encoders import COMPRESSIONS, FORMATS, PARQUET_COMPRESSIONS, Encoder, Sink, parquet_schema
from .folder import OutputFolder
from .shard import AtomicFile, RejectWriter, ShardWriter
from .single import SingleFile, Stream, check_compression, file_ending, format_of, is_stream
from .staging import prepare, rejects_path, staged_path, write_receipt

__all__ = [
    "COMPRESSIONS",
    "FORMATS",
    "PARQUET_COMPRESSIONS",
    "AtomicFile",
    "Encoder",
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
    "file_ending",
    "format_of",
    "is_stream",
    "parquet_schema",
    "prepare",
    "rejects_path",
    "staged_path",
    "write_receipt",
]
