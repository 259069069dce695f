//! Files and file systems: existing, changing and failing ones.

pub(crate) mod content_changes;
mod existing_files;
mod file_changes;
mod file_names;
mod file_systems;
mod io_faults;
