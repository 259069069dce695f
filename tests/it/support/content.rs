//! Test content: the bytes depend only on the name, and files are created once and kept under `target/`.

use std::{
    fs::{self, File},
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use bt_fast::base::lock::lock;
use walkdir::WalkDir;

const CHUNK_LEN: usize = 1 << 20;

/// A piece length that divides few file lengths of [`Content::Tree`].
const TREE_PIECE_LEN: u64 = 32 << 10;

/// Path and length of each file of [`Content::Tree`]: nested folders, empty files first, last and between, spaces,
/// non-ASCII letters, files smaller than a block, files that share a piece, a last piece that is short.
const TREE: [(&str, u64); 11] = [
    ("0 first and empty", 0),
    ("a.bin", 100_000),
    ("b/1", 1),
    ("b/2", 2),
    ("b/3", 16_384),
    ("b/empty", 0),
    ("b/c/d/e/f/deep file.bin", 1_234_567),
    ("b/c/span.bin", 3 * TREE_PIECE_LEN + 1),
    ("b/Grüße, мир & 世界 – naïve.txt", 33_333),
    ("b/z/exact.bin", TREE_PIECE_LEN),
    ("z last and empty", 0),
];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// A folder with every kind of file and path in [`TREE`].
    Tree,
    OneByte,
    OnePiece,
    /// One file of 1 MB.
    Megabyte,
    /// One file of 1 GiB.
    Gibibyte,
}

impl Content {
    /// Returns the torrent's name: the name of the folder or of the only file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tree => "A tree – ein Bäumchen",
            Self::OneByte => "one byte.bin",
            Self::OnePiece => "one piece.bin",
            Self::Megabyte => "megabyte.bin",
            Self::Gibibyte => "gibibyte.bin",
        }
    }

    pub(crate) fn piece_len(self) -> u64 {
        match self {
            Self::Tree => TREE_PIECE_LEN,
            Self::OneByte | Self::Megabyte => 32 << 10,
            Self::OnePiece => 256 << 10,
            Self::Gibibyte => 1 << 20,
        }
    }

    /// Returns the length of all files in bytes.
    pub(crate) fn len(self) -> u64 {
        match self {
            Self::Tree => TREE.iter().map(|(_, len)| len).sum(),
            Self::OneByte => 1,
            Self::OnePiece => self.piece_len(),
            Self::Megabyte => 1_000_000,
            Self::Gibibyte => 1 << 30,
        }
    }

    /// Returns the folder that contains [`Content::name`], and creates it if necessary.
    pub(crate) fn folder(self) -> PathBuf {
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = lock(&MAKING);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("content").join(format!("{self:?}"));
        if !folder.exists() {
            let unfinished = folder.with_extension("unfinished");
            let _ = fs::remove_dir_all(&unfinished);
            let root = unfinished.join(self.name());
            match self {
                Self::Tree => {
                    for (seed, (path, len)) in (1..).zip(TREE) {
                        write_random(&root.join(path), len, seed);
                    }
                }
                _ => write_random(&root, self.len(), 0),
            }
            fs::rename(&unfinished, &folder).unwrap();
        }
        folder
    }
}

/// Writes a file of `len` pseudorandom bytes from `seed`, and creates its parent folders.
pub(crate) fn write_random(path: &Path, len: u64, seed: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = File::create(path).unwrap();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut chunk = vec![0; CHUNK_LEN];
    let mut left = len;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_LEN);
        rng.fill(&mut chunk[..now]);
        file.write_all(&chunk[..now]).unwrap();
        left -= now as u64;
    }
}

/// Returns the first difference between two files or two folders. Ignores empty folders, which torrents cannot contain,
/// and empty files unless `with_empty` is set.
pub(crate) fn difference(expected: &Path, found: &Path, with_empty: bool) -> Option<String> {
    let files = |root: &Path| -> Vec<PathBuf> {
        let counts = |path: &PathBuf| with_empty || fs::symlink_metadata(below(root, path)).unwrap().len() > 0;
        files(root).into_iter().filter(counts).collect()
    };
    let (expected_files, found_files) = (files(expected), files(found));
    if expected_files != found_files {
        return Some(format!("files differ: expected {expected_files:?}, found {found_files:?}"));
    }
    expected_files.iter().find_map(|relative| {
        let offset = first_different_byte(&below(expected, relative), &below(found, relative))?;
        Some(format!("{} differs from byte {offset} on", below(found, relative).display()))
    })
}

/// Returns everything below `root` that is not a folder, as sorted relative paths. If `root` is a file, returns the
/// empty path.
pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(root).sort_by_file_name().into_iter().filter_map(Result::ok);
    let files = entries.filter(|entry| !entry.file_type().is_dir());
    files.map(|entry| entry.path().strip_prefix(root).unwrap().to_owned()).collect()
}

/// Joins the paths. Returns `root` itself for the empty path, to which `join` would append a slash.
fn below(root: &Path, relative: &Path) -> PathBuf {
    if relative.as_os_str().is_empty() { root.to_owned() } else { root.join(relative) }
}

fn first_different_byte(a: &Path, b: &Path) -> Option<u64> {
    let open = |path| BufReader::with_capacity(CHUNK_LEN, File::open(path).unwrap());
    let (mut a, mut b) = (open(a), open(b));
    let (mut a_chunk, mut b_chunk) = (vec![0; CHUNK_LEN], vec![0; CHUNK_LEN]);
    let mut offset = 0;
    loop {
        let a_len = read_full(&mut a, &mut a_chunk);
        let b_len = read_full(&mut b, &mut b_chunk);
        let (a_bytes, b_bytes) = (&a_chunk[..a_len], &b_chunk[..b_len]);
        if a_bytes != b_bytes {
            let equal = a_bytes.iter().zip(b_bytes).take_while(|(a, b)| a == b).count();
            return Some(offset + equal as u64);
        }
        if a_len == 0 {
            return None;
        }
        offset += a_len as u64;
    }
}

fn read_full(file: &mut impl Read, chunk: &mut [u8]) -> usize {
    let mut len = 0;
    while len < chunk.len() {
        match file.read(&mut chunk[len..]).unwrap() {
            0 => break,
            now => len += now,
        }
    }
    len
}
