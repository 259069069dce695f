use super::*;

fn layout(folder: &Path, path: &[&str]) -> Layout {
    Layout::open(folder, [path.iter().map(|element| element.as_bytes().to_vec()).collect()]).unwrap()
}

#[test]
fn files_are_created_with_their_folders_and_length() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout(folder.path(), &["a", "b", "c"]);
    assert_eq!(layout.presence(0).unwrap(), Presence::Absent);
    assert!(layout.create(0, 7).unwrap().is_some());
    assert!(layout.create(0, 7).unwrap().is_none());
    assert_eq!(layout.presence(0).unwrap(), Presence::Present { len: 7 });
    assert!(layout.create(0, 6).unwrap_err().to_string().contains("1 bytes longer"));
    assert_eq!(std::fs::read(folder.path().join("a/b/c")).unwrap(), [0; 7]);
}

#[test]
fn only_folders_with_new_names_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout(folder.path(), &["a", "b", "c"]);
    std::fs::create_dir(folder.path().join("a")).unwrap();
    layout.create(0, 7).unwrap();
    let folders: Vec<_> = layout.unsynced_folders().iter().cloned().collect();
    assert_eq!(folders, [Path::new("a"), Path::new("a/b")]);
    layout.sync_folders().unwrap();
    layout.create(0, 7).unwrap();
    assert!(layout.unsynced_folders().is_empty());
}

#[test]
fn a_read_only_file_of_the_right_length_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), b"content").unwrap();
    let layout = layout(folder.path(), &["a"]);
    let modified = layout.identity(0).unwrap();
    assert!(layout.create(0, 7).unwrap().is_none());
    assert_eq!(layout.identity(0).unwrap(), modified);
    assert!(layout.create(0, 9).unwrap().is_none());
    assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"content\0\0");
    layout.truncate(0, 4).unwrap();
    assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"cont");
}

#[test]
fn symbolic_links_do_not_lead_out_of_the_folder() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(outside.path(), folder.path().join("a")).unwrap();
    let through = layout(folder.path(), &["a", "b"]);
    assert!(through.create(0, 1).unwrap_err().to_string().contains("symbolic link"));
    let target = outside.path().join("target");
    std::fs::write(&target, b"keep").unwrap();
    std::os::unix::fs::symlink(&target, folder.path().join("file")).unwrap();
    let file = layout(folder.path(), &["file"]);
    assert!(file.create(0, 9).is_err() && file.open_to_write(0).is_err());
    assert_eq!(std::fs::read(&target).unwrap(), b"keep");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn only_links_that_existed_at_the_start_are_followed() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = outside.path().join("target");
    std::fs::write(&target, b"12345").unwrap();
    let open = || layout(folder.path(), &["d", "f"]);
    std::fs::create_dir(folder.path().join("d")).unwrap();
    let name = folder.path().join("d/f");
    std::os::unix::fs::symlink(&target, &name).unwrap();
    let present = Presence::Present { len: 5 };
    assert!(open().open_to_read(0).unwrap_err().to_string().contains("symbolic link"));
    assert_eq!(open().file_state(0).unwrap(), FileState::Gone);
    let found = open().following_present_links();
    assert_eq!((found.presence(0).unwrap(), open().following_links().presence(0).unwrap()), (present, present));
    assert_eq!(found.file_state(0).unwrap(), FileState::Present(found.open_to_read(0).unwrap().1));

    std::fs::remove_file(&name).unwrap();
    std::fs::write(&name, b"1").unwrap();
    let found = open().following_present_links();
    assert_eq!(found.presence(0).unwrap(), Presence::Present { len: 1 });
    std::fs::remove_file(&name).unwrap();
    std::os::unix::fs::symlink(&target, &name).unwrap();
    assert!(found.open_to_read(0).is_err());
    assert_eq!(found.file_state(0).unwrap(), FileState::Gone);
    // The same for a link in place of a folder.
    std::fs::remove_file(&name).unwrap();
    std::fs::remove_dir(folder.path().join("d")).unwrap();
    std::fs::write(outside.path().join("f"), b"1").unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("d")).unwrap();
    assert!(found.open_to_read(0).is_err());
}

#[test]
fn a_fifo_or_folder_in_place_of_a_file_is_an_error_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("d")).unwrap();
    assert!(layout(folder.path(), &["d"]).open_to_read(0).is_err());
    assert!(layout(folder.path(), &["d"]).create(0, 1).is_err());
    rustix::fs::mknodat(rustix::fs::CWD, folder.path().join("f"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert!(layout(folder.path(), &["f"]).open_to_read(0).is_err());
}
