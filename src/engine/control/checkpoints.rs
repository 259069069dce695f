//! Starts checkpoints on threads of their own. The checkpoint itself is `files::checkpoint`.

use std::sync::Arc;
use std::thread;

use crate::engine::files::partial_pieces::Stage;
use crate::engine::shared::Shared;
use crate::engine::torrent::Torrent;

/// Starts a checkpoint of the torrent on its own thread if one is due and none is running.
pub(super) fn begin_when_due(shared: &Arc<Shared>, torrent: &Arc<Torrent>) {
    let Some(checkpoint) = torrent.content.checkpoint.as_ref().filter(|checkpoint| !checkpoint.is_running()) else {
        return;
    };
    if let Err(error) = checkpoint.join_thread() {
        return shared.handle_fault(torrent, error);
    }
    if !checkpoint.is_due(torrent.downloaded()) {
        return;
    }
    let (shared, torrent) = (shared.clone(), torrent.clone());
    let work = move || {
        let Some(checkpoint) = &torrent.content.checkpoint else { return };
        match checkpoint.run(&torrent.content.store, false) {
            Ok(()) => checkpoint.save_parts(&torrent.swarm, Stage::Running),
            Err(error) => shared.handle_fault(&torrent, error),
        }
    };
    // A checkpoint whose thread could not be started is tried again at the next review.
    checkpoint.handle_begun(thread::Builder::new().name("checkpoint".to_owned()).spawn(work).ok());
}
