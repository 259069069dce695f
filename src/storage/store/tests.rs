use super::*;
use crate::io::write_all_at_blocking;
use crate::storage::{Landed, PieceBuffer, Presence, piece_buffers};

fn store(folder: &std::path::Path, lens: &[u64], pads: &[bool]) -> Store {
    let files = (0..lens.len()).map(|i| vec![b"t".to_vec(), format!("f{i}").into_bytes()]);
    let layout = Layout::open(folder, files).unwrap();
    Store::new(layout, Geometry::new(40_000, lens.iter().copied()).unwrap(), pads.into()).unwrap()
}

/// Presence of all files but pad files.
fn presences(store: &Store) -> Vec<Presence> {
    store.listed().map(|file_index| store.layout.presence(file_index).unwrap()).collect()
}

#[test]
fn a_piece_is_written_across_files_and_read_back() {
    for path in [WritePath::Buffered, WritePath::Direct] {
        write_and_read_back(path);
    }
}

fn write_and_read_back(path: WritePath) {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &[10_000, 0, 5_000, 30_000], &[false, false, true, false]);
    assert_eq!(presences(&store), [Presence::Absent; 3]);
    store.create_files().unwrap();
    assert_eq!(presences(&store), [10_000, 0, 30_000].map(|len| Presence::Present { len }));
    let mut buffer = piece_buffers(40_000, 1).unwrap().pop().unwrap();
    let piece = store.geometry.piece(0).unwrap();
    assert!(buffer.clear(40_000));
    let bytes: Vec<u8> =
        (0..40_000u32).map(|i| if (10_000..15_000).contains(&i) { 0 } else { i.to_le_bytes()[0] }).collect();
    let outcomes: Vec<Landed> = bytes.chunks(16_384).enumerate().map(|(i, block)| buffer.land(i, block)).collect();
    assert_eq!(outcomes.last(), Some(&Landed::Complete));
    let steps = store.write_steps(piece, &buffer, path).unwrap();
    for step in steps {
        let (file, _) = store.writable(step.file_index, step.path).unwrap();
        assert!(store.writable_if_open(step.file_index, step.path).is_some());
        write_all_at_blocking(&file, &step.source, step.offset).unwrap();
    }
    let mut back = Vec::new();
    store.read_piece(piece, &mut [0; 1000], |part| back.extend_from_slice(part), &|_| ()).unwrap();
    assert!(back == bytes);
    assert!(!folder.path().join("t/f2").exists(), "pad files are not created");
}

/// Returns a complete buffer of `len` bytes `fill`.
fn filled(mut buffer: PieceBuffer, len: u32, fill: u8) -> PieceBuffer {
    assert!(buffer.clear(len));
    let blocks = vec![fill; len as usize];
    blocks.chunks(16_384).enumerate().for_each(|(i, block)| _ = buffer.land(i, block));
    buffer
}

#[test]
fn writes_of_adjacent_pieces_become_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &[130_000, 30_000], &[false, false]);
    store.create_files().unwrap();
    let buffers = piece_buffers(40_000, 4).unwrap();
    let buffers: Vec<_> = (1..).zip(buffers).map(|(fill, buffer)| filled(buffer, 40_000, fill)).collect();
    let pieces: Vec<_> = store.geometry.pieces().collect();
    let steps = |at: usize| store.write_steps(pieces[at], &buffers[at], WritePath::Buffered).unwrap();
    let mut steps: Vec<_> = (0..4).flat_map(steps).collect();
    // The last piece lies in both files.
    let continues: Vec<_> = steps.windows(2).map(|pair| pair[0].is_continued_by(&pair[1])).collect();
    assert_eq!(continues, [true, true, true, false]);
    assert!(!steps[0].is_continued_by(&steps[2]) && !steps[1].is_continued_by(&steps[0]));
    let rest = steps.split_off(1);
    let mut whole = steps.pop().unwrap();
    rest.into_iter().take(3).for_each(|step| whole.source.append(step.source));
    assert_eq!(whole.source.len(), 130_000);
    let (file, _) = store.writable(0, WritePath::Buffered).unwrap();
    write_all_at_blocking(&file, &whole.source, whole.offset).unwrap();
    let written = std::fs::read(folder.path().join("t/f0")).unwrap();
    assert!(written.iter().enumerate().all(|(i, &byte)| usize::from(byte) == i / 40_000 + 1));
}

#[test]
fn a_long_write_is_not_continued() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::open(folder.path(), [vec![b"t".to_vec()]]).unwrap();
    let len = limits::WRITE_RUN_LEN / 2 + 4096;
    let geometry = Geometry::new(len, [u64::from(len) * 2]).unwrap();
    let store = Store::new(layout, geometry, [false].into()).unwrap();
    let steps = store
        .geometry
        .pieces()
        .zip(piece_buffers(len, 2).unwrap())
        .flat_map(|(piece, buffer)| store.write_steps(piece, &filled(buffer, len, 1), WritePath::Direct).unwrap());
    let steps: Vec<_> = steps.collect();
    assert!(!steps[0].is_continued_by(&steps[1]));
}

#[test]
fn a_dropped_range_is_not_resident_until_it_is_populated() {
    // The file system of the sources is on disk, so its pages can leave memory; /tmp may be a tmpfs.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let store = store(folder.path(), &[300_000], &[false]);
    store.create_files().unwrap();
    let file = store.layout.open_to_write(0).unwrap();
    std::io::Write::write_all(&mut &file, &[7; 300_000]).unwrap();
    file.sync_all().unwrap();
    assert!(!store.is_resident(100_000, 100_000), "not mapped");
    store.populate(100_000, 100_000, &|_| ()).unwrap();
    assert!(store.is_resident(100_000, 100_000));
    store.drop_range(0, 300_000);
    assert!(!store.is_resident(100_000, 100_000));
}

#[test]
fn space_is_reserved_except_for_pad_files() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &[100_000, 0, 5_000], &[false, false, true]);
    store.create_files().unwrap();
    let blocks = || std::fs::metadata(folder.path().join("t/f0")).unwrap().blocks();
    assert_eq!(blocks(), 0);
    store.preallocate().unwrap();
    // Some file systems do not support reservations.
    assert!(blocks() == 0 || blocks() * 512 >= 100_000);
    assert_eq!(presences(&store), [100_000, 0].map(|len| Presence::Present { len }));
}

#[test]
fn a_lease_needs_a_map_and_a_file_of_full_length() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &[50_000], &[false]);
    store.create_files().unwrap();
    let last = store.geometry.block(store.geometry.piece(1).unwrap(), 0).unwrap();
    assert!(store.lease(last).is_none());
    std::fs::File::create(folder.path().join("t/f0")).unwrap().set_len(45_000).unwrap();
    assert!(store.populate(40_000, 10_000, &|_| ()).unwrap_err().is_absent());
    assert!(store.lease(last).is_none(), "short file");
    store.populate(0, 45_000, &|_| ()).unwrap();
    let first = store.geometry.block(store.geometry.piece(0).unwrap(), 0).unwrap();
    assert!(store.lease(first).is_some());
    let error = store.read_piece(last.piece, &mut [0; 100], |_| (), &|_| ()).unwrap_err();
    assert!(error.is_absent() && error.to_string().contains("f0"));
}
