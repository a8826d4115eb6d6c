"""Output: formats, shards that appear whole or not at all, folders and files that are published in one step."""

from .dataset_card import card, check_split, patterns
from .durable import make_folder, write_atomic
from .encoders import FORMATS, parquet_schema
from .file_names import check_compression, check_shard_name, file_ending, format_from_name, shard_names
from .folder import OutputFolder, copy, write_rejects
from .parts import TAG, TAG_TYPE, PartFile, tag_bytes, token_counts, with_tags, with_token_counts
from .shard import AtomicFile, RejectWriter, ShardWriter, remove_abandoned_parts
from .single_file import SingleFile, staging_folder
from .staging import (
    ASKED,
    PARTS,
    PLAN,
    SPOOL,
    Lock,
    count_finished,
    finished_shards,
    is_worth_resuming,
    prepare_state,
    read_receipt,
    receipt_path,
    rejects_path,
    run_fingerprint,
    staged_path,
    write_receipt,
)
from .store_folder import PLAN as PLAN_ON_STORE
from .store_folder import RUN as RUN_ON_STORE
from .store_folder import SPOOL as SPOOL_ON_STORE
from .store_folder import StoreFolder, finished_on_store, uploading, verify_on_store
from .stream import Stream, is_stream
