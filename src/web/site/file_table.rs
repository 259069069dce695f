//! The table of a torrent's files on the landing page.

use std::fmt::Write as _;

use crate::base::escape::{html, printable};
use crate::base::limits::FILES_SHOWN_MAX;
use crate::base::units;
use crate::codec::metainfo::FileEntry;

/// Creates the table. It shows at most [`FILES_SHOWN_MAX`] files and the number of the others.
pub(super) fn file_table(files: &[FileEntry]) -> String {
    let shown = || files.iter().filter(|file| !file.pad);
    let count = shown().count();
    let mut out =
        format!("<details>\n<summary>{count} files</summary>\n<table>\n<tr><th>File</th><th>Size</th></tr>\n");
    for file in shown().take(FILES_SHOWN_MAX) {
        let elements: Vec<String> = file.path.iter().skip(1).map(|element| printable(element)).collect();
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", html(&elements.join("/")), units::Bytes(file.len));
    }
    if count > FILES_SHOWN_MAX {
        let _ = writeln!(out, "<tr><td>and {} more</td><td></td></tr>", count - FILES_SHOWN_MAX);
    }
    out.push_str("</table>\n</details>\n");
    out
}
