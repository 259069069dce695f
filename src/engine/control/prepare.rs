//! Prepares a torrent for a session: its store, the pieces on disk, the selection, the resume record and the piece
//! memory.

use std::sync::Arc;

use crate::base::{Bitfield, Geometry, Rng, limits};
use crate::codec::metainfo::Metainfo;
use crate::engine::config::{Config, Provenance, Source};
use crate::engine::files::checkpoint::Checkpoint;
use crate::engine::files::writeback::WriteMode;
use crate::engine::report::EngineError;
use crate::engine::torrent::{Opened, Settings, Start, Torrent};
use crate::storage::{Layout, PieceBuffer, Presence, Store, piece_buffers};
use crate::swarm::{Choice, Selection, peer_list};

/// Returns the torrent and its trackers by tier. `number` identifies the torrent in this session.
pub(in crate::engine) fn prepare(
    source: Source,
    config: &Config,
    extents_trusted: u32,
    number: u32,
) -> Result<(Arc<Torrent>, Vec<Vec<String>>), EngineError> {
    let Source {
        metainfo,
        folder,
        mut have,
        choices,
        provenance,
        target,
        earlier,
        tiers,
        peers,
        link_peers,
        loss_reports,
    } = source;
    let info = &metainfo.info;
    let layout = Layout::open(&folder, info.files.iter().map(|file| file.path.clone()))?;
    let pads = info.files.iter().map(|file| file.pad).collect();
    // Links are followed only for files that are not written.
    let layout = if target.is_some() { layout } else { layout.following_present_links() };
    let mut store = Store::new(layout, info.geometry.clone(), pads)?;
    let mut selection = None;
    if let Some(mut choices) = choices {
        (store, have) = deselect_files(store, &mut choices, &info.geometry, have)?;
        selection = Some(Selection::new(&info.geometry, &choices));
    }
    let checkpoint = target.map(|target| {
        let pieces_of = |file_index| info.geometry.pieces_of_file(file_index);
        let is_written = |file_index| !pieces_of(file_index).all(|index| have.contains_index(index as usize));
        target.create_files(&store, is_written)?;
        Checkpoint::new(target, metainfo.info_hash, &store, &have, earlier)
    });
    let checkpoint = checkpoint.transpose()?;
    let has_wanted =
        |selection: &Selection| info.geometry.pieces().all(|piece| have.contains(piece) || !selection.is_wanted(piece));
    let has_wanted = selection.as_ref().map_or_else(|| have.is_full(), has_wanted);
    let verified;
    (store, verified) = with_provenance(store, provenance, &info.geometry, &have);
    if has_wanted && checkpoint.is_some() {
        store.end_writing(&|_| ());
    }
    let buffers = if has_wanted { Vec::new() } else { arena(&metainfo, config.arena_len)? };
    // Content that will be seeded is read again soon, so it is written through the page cache.
    let write_mode = match config.write_mode {
        WriteMode::Auto if config.keep_seeding => WriteMode::Buffered,
        chosen => chosen,
    };
    let opened = Opened { store, checkpoint };
    let start = Start { have: &have, selection, verified: &verified };
    let settings = Settings {
        write_mode,
        extents_trusted,
        up_max: config.rates.up_each,
        filter: config.filter.clone(),
        loss_reports,
    };
    let torrent = Torrent::new(number, metainfo, opened, start, buffers, settings);
    if config.super_seed {
        torrent.swarm.start_super_seeding();
    }
    if config.sequential {
        torrent.swarm.order.set_sequential(true);
        torrent.swarm.reorder(&mut Rng::new());
    }
    torrent.peers.list().handle_announced(link_peers, peer_list::Source::User, &mut Rng::new());
    torrent.peers.list().handle_announced(peers, peer_list::Source::Tracker, &mut Rng::new());
    if let Some(checkpoint) = &torrent.content.checkpoint {
        checkpoint.restore_parts(&torrent.swarm);
    }
    Ok((Arc::new(torrent), tiers))
}

/// Returns the store and the pieces that are served without being hashed first.
fn with_provenance(store: Store, provenance: Provenance, geometry: &Geometry, have: &Bitfield) -> (Store, Bitfield) {
    match provenance {
        Provenance::Unknown => (store, Bitfield::new(geometry.piece_count())),
        Provenance::Written => (store.writing(), have.clone()),
        Provenance::Known(files) => {
            let mut verified = have.clone();
            for file_index in store.listed().filter(|&at| files.get(at).is_none_or(Option::is_none)) {
                let pieces = geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index));
                pieces.for_each(|piece| _ = verified.remove(piece));
            }
            (store.with_known(files), verified)
        }
    }
}

/// Handles deselected files: those on disk with their full length and at least one piece of `have` are kept. The others
/// are left out of the store, and their pieces are removed from `have`.
fn deselect_files(
    store: Store,
    choices: &mut [Choice],
    geometry: &Geometry,
    mut have: Bitfield,
) -> Result<(Store, Bitfield), EngineError> {
    for file_index in store.listed() {
        let expected = Presence::Present { len: geometry.file_len(file_index) };
        if let Some(choice @ Choice::Deselected) = choices.get_mut(file_index)
            && store.layout().presence(file_index)? == expected
            // Without one of our pieces it may be an unrelated file of that name.
            && geometry.pieces_of_file(file_index).any(|index| have.contains_index(index as usize))
        {
            *choice = Choice::Kept;
        }
    }
    let deselected: Box<[bool]> = choices.iter().map(|&choice| choice == Choice::Deselected).collect();
    for (file_index, _) in deselected.iter().enumerate().filter(|(_, deselected)| **deselected) {
        for piece in geometry.pieces_of_file(file_index).filter_map(|index| geometry.piece(index)) {
            have.remove(piece);
        }
    }
    Ok((store.without_files(deselected), have))
}

/// Allocates as many piece buffers as the arena holds, at least two and at most one for each piece.
fn arena(metainfo: &Metainfo, arena_len: u64) -> Result<Vec<PieceBuffer>, EngineError> {
    let geometry = &metainfo.info.geometry;
    let longest = u64::from(geometry.piece_len()).min(geometry.total_len());
    let buffer_len = u32::try_from(longest).unwrap_or(u32::MAX);
    let fitting = arena_len / longest.max(1);
    let buffer_count = fitting.clamp(2, u64::from(limits::OPEN_PIECES_MAX)).min(u64::from(geometry.piece_count()));
    piece_buffers(buffer_len, u32::try_from(buffer_count).unwrap_or(2)).map_err(EngineError::Arena)
}
