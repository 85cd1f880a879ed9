//! What may stand in which sources.

use std::fs;
use std::path::{Path, PathBuf};

/// The crates beside this one, and the lines of their sources without tests and comments.
fn each_line(mut check: impl FnMut(&str, &Path, &str)) {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("it lies among crates");
    for folder in fs::read_dir(crates).expect("the crates can be listed") {
        let folder = folder.expect("a folder").path();
        let name = folder
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        for file in rust_files(&folder.join("src")) {
            let text = fs::read_to_string(&file).expect("a source can be read");
            let code = text.split("#[cfg(test)]").next().unwrap_or("");
            for line in code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
            {
                check(&name, &file, line);
            }
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return vec![];
    };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The keyword, and not the word: a profile has that name, too.
fn has_unsafe_code(line: &str) -> bool {
    let begins = ["{", "fn ", "impl ", "trait ", "extern "];
    let rests = line.split("unsafe ").skip(1);
    rests
        .map(str::trim_start)
        .any(|rest| begins.iter().any(|word| rest.starts_with(word)))
}

#[test]
fn only_the_sandbox_is_unsafe() {
    each_line(|name, file, line| {
        let is_unsafe = line.contains("unsafe_code") || has_unsafe_code(line);
        assert!(
            !is_unsafe || name == "par-sandbox",
            "{}: {line}",
            file.display()
        );
    });
}

#[test]
fn only_the_sandbox_starts_processes() {
    each_line(|name, file, line| {
        let starts = ["Command::new", "process::Command", "CommandExt"]
            .iter()
            .any(|word| line.contains(word));
        let may = ["par-sandbox", "par-testkit"].contains(&name);
        assert!(!starts || may, "{}: {line}", file.display());
    });
}

#[test]
fn no_room_is_called_utils() {
    each_line(|_, file, _| {
        let stem = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or("");
        let says_nothing = [
            "utils", "util", "common", "helpers", "misc", "manager", "types",
        ];
        assert!(!says_nothing.contains(&stem), "{}", file.display());
    });
}
