//! A source file, and the folders of them.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file of a crate.
pub struct Source {
    /// Its path from the root of the repository.
    pub path: String,
    /// The path of its module: of `src/shard/door.rs` `shard` and `door`, of the root of a crate nothing.
    pub module: Vec<String>,
    pub text: String,
}

impl Source {
    /// The file at `path` below `root`, the folder of its crate.
    pub fn new(root: &str, path: &str, text: String) -> Self {
        let inside = path.strip_prefix(root).expect("it is in its crate").trim_start_matches('/');
        let mut module: Vec<String> = inside.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| last == "mod") || ["lib.rs", "main.rs"].contains(&inside) {
            module.pop();
        }
        Source { path: path.to_owned(), module, text }
    }

    /// All files of the crate in the folder `root`, without `tests.rs` in any folder. Programs in `bin` are crates of their own;
    /// that of a library is a module `main`.
    pub fn of_crate(root: &str) -> Vec<Source> {
        let mut sources = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for path in entries(&folder) {
                if path.ends_with("/tests.rs") {
                    continue;
                }
                if path.ends_with(".rs") {
                    let text = fs::read_to_string(below_root(&path)).expect("a source file is text");
                    sources.push(Source::new(root, &path, text));
                } else if below_root(&path).is_dir() && path != format!("{root}/bin") {
                    folders.push(path);
                }
            }
        }
        if sources.iter().any(|source| source.path.ends_with("lib.rs"))
            && let Some(program) = sources.iter_mut().find(|source| source.path == format!("{root}/main.rs"))
        {
            program.module = vec!["main".to_owned()];
        }
        sources
    }

    /// Its code, with the numbers of the lines: without comments, and without the tests at its end.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        let before_tests = lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        let uncommented = before_tests.map(|(number, line)| (number + 1, line.split("//").next().unwrap_or("")));
        uncommented.filter(|(_, line)| !line.trim().is_empty())
    }

    /// The top-level module it belongs to.
    pub fn room(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }
}

/// What is in `folder`, a path from the root of the repository: paths from there, too, in order.
pub fn entries(folder: &str) -> Vec<String> {
    let found = fs::read_dir(below_root(folder)).expect("a folder of sources can be read");
    let names = found.map(|entry| entry.expect("its entries, too").file_name().to_string_lossy().into_owned());
    let mut paths: Vec<String> = names.map(|name| format!("{folder}/{name}")).collect();
    paths.sort();
    paths
}

fn below_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
