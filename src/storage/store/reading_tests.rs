use super::*;
use crate::base::Geometry;
use crate::io::Gather as _;
use crate::storage::Layout;
use crate::storage::budget::Budget;
use crate::storage::mapping::Maps;
use crate::storage::read_content::Packs;

const PIECE_LEN: u32 = 32 << 10;

/// A store with its own budgets for maps and packs, and its content.
struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
    content: Vec<u8>,
}

impl Fixture {
    fn new(lens: &[usize], maps_max: u64, packs_len: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("t")).unwrap();
        let mut content = Vec::new();
        for (at, &len) in lens.iter().enumerate() {
            let bytes: Vec<u8> = (0..251).cycle().skip(content.len() % 251).take(len).collect();
            std::fs::write(folder.path().join(format!("t/f{at}")), &bytes).unwrap();
            content.extend(bytes);
        }
        let files = (0..lens.len()).map(|i| vec![b"t".to_vec(), format!("f{i}").into_bytes()]);
        let layout = Layout::open(folder.path(), files).unwrap();
        let geometry = Geometry::new(PIECE_LEN, lens.iter().map(|&len| len as u64)).unwrap();
        let mut store = Store::new(layout, geometry, vec![false; lens.len()].into()).unwrap();
        store.maps = Maps::new(&vec![None; lens.len()], Budget::new(maps_max)).unwrap();
        let extents = 0..content.len().div_ceil(usize::try_from(EXTENT_LEN).unwrap());
        store.packs = Packs::new(extents.map(|_| None), Budget::new(packs_len));
        Self { folder, store, content }
    }

    fn blocks(&self) -> impl Iterator<Item = BlockRef> {
        let geometry = &self.store.geometry;
        geometry.pieces().flat_map(move |piece| (0..).map_while(move |index| geometry.block(piece, index)))
    }

    /// Whether this block can be leased. Panics if the leased bytes are wrong.
    fn is_leased(&self, block: BlockRef) -> bool {
        let Some(lease) = self.store.lease(block) else { return false };
        let mut spans = Vec::new();
        lease.gather(&mut spans);
        let bytes = spans.iter().flat_map(|span| {
            // SAFETY: the lease is alive, and nothing writes to the file.
            unsafe { std::slice::from_raw_parts(span.iov_base.cast::<u8>(), span.iov_len) }
        });
        let start = (block.piece.get() * PIECE_LEN + block.begin) as usize;
        assert!(bytes.eq(&self.content[start..start + block.len as usize]));
        true
    }

    fn assert_served(&self) {
        let len = self.content.len() as u64;
        for start in (0..len.div_ceil(EXTENT_LEN)).map(|extent| extent * EXTENT_LEN) {
            let end = len.min(start + EXTENT_LEN);
            self.store.populate(start, end - start, &|_| ()).unwrap();
            assert!(self.store.is_resident(start, end - start));
            let is_inside = |block: &BlockRef| {
                let at = u64::from(block.piece.get() * PIECE_LEN + block.begin);
                at >= start && at + u64::from(block.len) <= end
            };
            assert!(self.blocks().filter(is_inside).all(|block| self.is_leased(block)));
        }
    }
}

#[test]
fn a_lease_covers_mapped_and_read_files() {
    let fixture = Fixture::new(&[40_000, 10, 0, 16_384, 100, 300_000, 7], 100, 1 << 20);
    assert!(!fixture.blocks().any(|block| fixture.is_leased(block)));
    fixture.assert_served();
    let mapped = |at: &usize| fixture.store.maps.get(*at).is_some();
    assert_eq!((0..7).filter(mapped).collect::<Vec<_>>(), [0, 5]);
    let lease = fixture.store.lease(fixture.blocks().nth(2).unwrap()).unwrap();
    let mut spans = Vec::new();
    lease.gather(&mut spans);
    assert_eq!(spans.iter().map(|span| span.iov_len).collect::<Vec<_>>(), [40_000 - 32_768, 49_152 - 40_000]);
}

#[test]
fn an_extent_of_more_files_than_maps_is_served() {
    for maps_max in [1, 8, 20] {
        let fixture = Fixture::new(&[20_000; 120], maps_max, 4 << 20);
        fixture.assert_served();
        let mapped = (0..120).filter(|&at| fixture.store.maps.get(at).is_some()).count();
        assert!(mapped as u64 <= maps_max);
    }
}

#[test]
fn an_extent_of_one_byte_files_is_served() {
    Fixture::new(&[1; 3000], 1, 100_000).assert_served();
}

#[test]
fn evicted_content_can_be_populated_again() {
    let fixture = Fixture::new(&[10_000; 300], 1, (1 << 20) + 1000);
    fixture.assert_served();
    let first = fixture.blocks().next().unwrap();
    assert!(!fixture.is_leased(first) && !fixture.store.is_resident(0, 16_384));
    fixture.assert_served();
    fixture.store.populate(0, 10, &|_| ()).unwrap();
    assert!(fixture.is_leased(first));
    fixture.store.drop_range(0, EXTENT_LEN);
    assert!(!fixture.is_leased(first));
}

#[test]
fn a_write_invalidates_content_read_before_it() {
    let mut fixture = Fixture::new(&[10_000; 10], 1, 1 << 20);
    fixture.assert_served();
    std::fs::write(fixture.folder.path().join("t/f4"), vec![1; 10_000]).unwrap();
    fixture.content[40_000..50_000].fill(1);
    fixture.store.handle_written(fixture.store.geometry.piece(1).unwrap());
    fixture.assert_served();
}

#[test]
fn only_ranges_in_a_missing_or_short_file_are_lost() {
    let fixture = Fixture::new(&[10_000, 10_000, 10_000, 50_000, 50_000], 100, 1 << 20);
    std::fs::remove_file(fixture.folder.path().join("t/f1")).unwrap();
    assert!(fixture.store.populate(0, 130_000, &|_| ()).unwrap_err().is_absent());
    assert!(fixture.store.populate(9_999, 2, &|_| ()).unwrap_err().is_absent());
    fixture.store.populate(0, 10_000, &|_| ()).unwrap();
    fixture.store.populate(20_000, 110_000, &|_| ()).unwrap();
    let cut = std::fs::File::options().write(true).open(fixture.folder.path().join("t/f4")).unwrap();
    cut.set_len(20_000).unwrap();
    fixture.store.forget(4);
    assert!(fixture.store.populate(80_000, 50_000, &|_| ()).unwrap_err().is_absent());
    fixture.store.populate(80_000, 20_000, &|_| ()).unwrap();
}

#[test]
fn a_replaced_file_is_noticed_and_read_again() {
    let mut fixture = Fixture::new(&[10_000, 50_000], 100, 1 << 20);
    fixture.assert_served();
    for (file_index, len) in [(0, 10_000), (1, 50_000)] {
        let path = fixture.folder.path().join(format!("t/f{file_index}"));
        let recheck = |store: &Store| {
            let changed = std::cell::Cell::new(false);
            store.recheck(file_index, &|_| changed.set(true)).unwrap();
            changed.get()
        };
        assert!(!recheck(&fixture.store));
        let new = fixture.folder.path().join("new");
        std::fs::write(&new, vec![1; len]).unwrap();
        std::fs::rename(new, path).unwrap();
        assert!(recheck(&fixture.store));
        let start = usize::try_from(fixture.store.geometry.range_of_file(file_index).start).unwrap();
        fixture.content[start..start + len].fill(1);
        fixture.assert_served();
        assert!(!recheck(&fixture.store));
    }
}
