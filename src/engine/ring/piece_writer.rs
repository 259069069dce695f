//! Writes verified pieces, and announces them.

use std::sync::Arc;

use crate::base::limits;
use crate::engine::files::writeback::{DirtyRange, Flush};
use crate::engine::shared::Shared;
use crate::engine::shared::received::Verified;
use crate::engine::torrent::Torrent;
use crate::io::{SharedFile, spawn};
use crate::storage::{Action, StorageError, WritePath, WriteStep};

/// Writes verified pieces to their files, then announces them.
pub(in crate::engine) async fn write(shared: Arc<Shared>, verified: Verified) {
    let Verified { torrent, pieces, steps, .. } = verified;
    for step in steps {
        if let Err(error) = write_step(&shared, &torrent, step).await {
            return shared.handle_fault(&torrent, error);
        }
    }
    pieces.iter().for_each(|open| torrent.handle_written(open));
    drop(pieces);
    shared.rings.spread_news();
    if torrent.swarm.pieces.is_complete() {
        shared.control.wake(&torrent);
        shared.files.spawn(move || torrent.content.handle_complete());
    }
}

async fn write_step(shared: &Arc<Shared>, torrent: &Arc<Torrent>, step: WriteStep) -> Result<(), StorageError> {
    let WriteStep { file_index, path, offset, source } = step;
    let failed = |error| StorageError::new(Action::Write, torrent.content.store.layout().path(file_index), error);
    let len = source.len();
    let permit = torrent.content.writeback.acquire_open_file().await;
    let (file, path) = open(shared, torrent, file_index, path).await?;
    let reserved = match path {
        WritePath::Buffered => Some(torrent.content.writeback.reserve(len).await),
        WritePath::Direct => None,
    };
    let written = shared.files.write_all_at(&torrent.content.file_share, file.clone(), path, source, offset).await;
    written.map_err(failed)?;
    torrent.content.handle_file_written(file_index, &file);
    let dirty = |reserved| {
        torrent.content.writeback.handle_written(DirtyRange { file, file_index, offset, len }, reserved, permit)
    };
    if let Some(flush) = reserved.and_then(dirty) {
        spawn(finish_flush(shared.clone(), torrent.clone(), flush));
    }
    Ok(())
}

/// Returns an open file. While descriptors are short, waits a few seconds for other files to be closed.
async fn open(
    shared: &Shared,
    torrent: &Arc<Torrent>,
    file_index: usize,
    path: WritePath,
) -> Result<(SharedFile, WritePath), StorageError> {
    for _ in 0..limits::OPEN_RETRIES_MAX {
        match open_once(shared, torrent, file_index, path).await {
            Err(error) if error.is_transient() => tokio::time::sleep(limits::READ_RETRY_PAUSE).await,
            opened => return opened,
        }
    }
    open_once(shared, torrent, file_index, path).await
}

/// Returns a file that is open, or has a file thread open it, since that may block.
async fn open_once(
    shared: &Shared,
    torrent: &Arc<Torrent>,
    file_index: usize,
    path: WritePath,
) -> Result<(SharedFile, WritePath), StorageError> {
    if let Some(open) = torrent.content.store.writable_if_open(file_index, path) {
        return Ok(open);
    }
    let owner = torrent.clone();
    let opened =
        shared.files.run(&torrent.content.file_share, move || owner.content.store.writable(file_index, path)).await;
    opened.unwrap_or_else(|| {
        let error = std::io::Error::other("opening the file panicked, or the session has ended");
        Err(StorageError::new(Action::Open, torrent.content.store.layout().path(file_index), error))
    })
}

async fn finish_flush(shared: Arc<Shared>, torrent: Arc<Torrent>, flush: Flush) {
    let sync =
        async |range: &DirtyRange, step| shared.files.flush_range(&torrent.content.file_share, range, step).await;
    if let Err((file_index, error)) = torrent.content.writeback.flush(flush, sync).await {
        shared.handle_fault(
            &torrent,
            StorageError::new(Action::Write, torrent.content.store.layout().path(file_index), error),
        );
    }
}

/// Reserves the space of the torrent's files; may block for long.
pub(in crate::engine) fn preallocate(shared: &Shared, torrent: &Torrent) {
    if let Err(error) = torrent.content.store.preallocate() {
        shared.handle_fault(torrent, error);
    }
    if let Some(checkpoint) = &torrent.content.checkpoint {
        torrent.content.store.file_indices().for_each(|file_index| checkpoint.handle_reserved(file_index));
    }
}
