//! Which file needs which: whoever names what another defines, and whoever calls a method that stands there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use crate::names::{Names, On};
use crate::source::Source;

/// How many re-exports a name is followed through.
const REEXPORTS: usize = 16;

/// The files of a crate.
pub struct Graph {
    files: Vec<File>,
    by_module: BTreeMap<Vec<String>, usize>,
}

/// A file, and what it says.
pub struct File {
    pub source: Source,
    pub names: Names,
}

/// Why one file needs another.
struct Need {
    line: usize,
    name: String,
}

/// What a path leads to.
#[derive(Clone, Copy)]
enum Found {
    /// A module alone: naming it is no need.
    Module(usize),
    /// Something that this file defines.
    Item(usize),
}

impl Graph {
    /// The graph of a crate. Files that are there for tests alone are left out.
    pub fn of(sources: Vec<Source>) -> Self {
        let read = |source: Source| File { names: Names::of(&source.text), source };
        let mut files: Vec<File> = sources.into_iter().map(read).collect();
        let for_tests: BTreeSet<Vec<String>> = files
            .iter()
            .flat_map(|File { source, names }| names.test_modules.iter().map(|name| child(&source.module, name)))
            .collect();
        let is_for_tests = |module: &[String]| (1..=module.len()).any(|length| for_tests.contains(&module[..length]));
        files.retain(|file| !is_for_tests(&file.source.module));
        let by_module = files.iter().enumerate().map(|(index, file)| (file.source.module.clone(), index)).collect();
        Graph { files, by_module }
    }

    /// The files in `folder`, and the module of the same name.
    pub fn files_in(&self, folder: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| is_in(&file.source.path, folder))
    }

    /// The circles of files in `folder` (and the module of the same name): of each file on one a shortest, as text, with the
    /// line that needs the next file.
    pub fn cycles_in(&self, folder: &str) -> Vec<String> {
        let needs = self.needs_in(folder);
        let mut next: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (from, to) in needs.keys() {
            next.entry(*from).or_default().push(*to);
        }
        let mut seen = BTreeSet::new();
        let mut cycles = Vec::new();
        for start in next.keys() {
            let Some(cycle) = shortest(&next, *start) else { continue };
            if !seen.insert(cycle.iter().copied().collect::<BTreeSet<_>>()) {
                continue;
            }
            let mut text = String::new();
            for (at, file) in cycle.iter().enumerate() {
                let Need { line, name } = &needs[&(*file, cycle[(at + 1) % cycle.len()])];
                let _ = write!(text, "{}:{line} ({name}) -> ", self.files[*file].source.path);
            }
            cycles.push(text + &self.files[*start].source.path);
        }
        cycles
    }

    /// Who needs whom in `folder`, and the first reason.
    fn needs_in(&self, folder: &str) -> BTreeMap<(usize, usize), Need> {
        let mut needs = BTreeMap::new();
        let inside: Vec<usize> =
            (0..self.files.len()).filter(|file| is_in(&self.files[*file].source.path, folder)).collect();
        for from in &inside {
            for named in &self.files[*from].names.named {
                let as_module = [named.path.as_slice(), &["self".to_owned()]].concat();
                let path = if named.import { &as_module } else { &named.path };
                if let Some(Found::Item(to)) = self.find(*from, path, true, REEXPORTS) {
                    let name = named.path.join("::");
                    needs.entry((*from, to)).or_insert(Need { line: named.line, name });
                }
            }
        }
        let homes = self.homes_of_methods(&inside);
        for from in &inside {
            for call in &self.files[*from].names.calls {
                let called = |(of, method): &(&str, &str)| {
                    *method == call.method
                        && match &call.on {
                            On::Type(own) => own == of,
                            On::Variable(variable) => *variable == snake_case(of),
                        }
                };
                if let Some(to) = homes.iter().find(|(method, _)| called(method)).map(|(_, to)| *to) {
                    needs.entry((*from, to)).or_insert(Need { line: call.line, name: format!("{}()", call.method) });
                }
            }
        }
        needs.retain(|(from, to), _| from != to && inside.contains(to));
        needs
    }

    /// The file of each method, where a type has its `impl` blocks in several files; not of those that several files define.
    fn homes_of_methods(&self, inside: &[usize]) -> BTreeMap<(&str, &str), usize> {
        let mut homes: BTreeMap<(&str, &str), BTreeSet<usize>> = BTreeMap::new();
        let mut files: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for file in inside {
            for (of, method) in &self.files[*file].names.methods {
                homes.entry((of, method)).or_default().insert(*file);
                files.entry(of).or_default().insert(*file);
            }
        }
        homes.retain(|(of, _), homes| homes.len() == 1 && files[of].len() > 1);
        homes.into_iter().filter_map(|(method, homes)| Some((method, homes.into_iter().next()?))).collect()
    }

    /// What `path` leads to, said in `file`. What `file` does not know is nothing, if its `own` names are asked; else it counts
    /// as something that `file` makes by a macro.
    fn find(&self, file: usize, path: &[String], own: bool, reexports: usize) -> Option<Found> {
        let File { source: Source { module, .. }, names } = &self.files[file];
        let Some((first, rest)) = path.split_first() else { return Some(Found::Module(file)) };
        let of = |module: &[String]| self.by_module.get(module).copied();
        match first.as_str() {
            "crate" => return self.find(of(&[])?, rest, false, reexports),
            "self" => return self.find(file, rest, false, reexports),
            "super" => return self.find(of(module.split_last()?.1)?, rest, false, reexports),
            _ => {}
        }
        let child = of(&child(module, first));
        if let Some(child) = child.filter(|_| !rest.is_empty()) {
            return self.find(child, rest, false, reexports);
        }
        if names.defined.contains(first) {
            return Some(Found::Item(file));
        }
        let fewer = reexports.checked_sub(1)?;
        if let Some(import) = names.imported.get(first).filter(|import| **import != [first.clone()]) {
            return self.find(file, &[import, rest].concat(), true, fewer);
        }
        if let Some(child) = child {
            return Some(Found::Module(child));
        }
        for glob in &names.globs {
            if let Some(Found::Module(of)) = self.find(file, glob, true, fewer)
                && let Some(found) = self.find(of, path, true, fewer)
            {
                return Some(found);
            }
        }
        (!own).then_some(Found::Item(file))
    }
}

/// A shortest way from `start` back to it.
fn shortest(next: &BTreeMap<usize, Vec<usize>>, start: usize) -> Option<Vec<usize>> {
    let mut before: BTreeMap<usize, usize> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(file) = waiting.pop_front() {
        for to in next.get(&file).into_iter().flatten() {
            if *to == start {
                let mut way: Vec<usize> = std::iter::successors(Some(file), |file| before.get(file).copied()).collect();
                way.reverse();
                return Some(way);
            }
            if !before.contains_key(to) {
                before.insert(*to, file);
                waiting.push_back(*to);
            }
        }
    }
    None
}

/// The path of the module `name` in `module`.
fn child(module: &[String], name: &str) -> Vec<String> {
    [module, &[name.to_owned()]].concat()
}

fn is_in(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// How a variable of type `name` is called.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for char in name.chars() {
        if char.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(char.to_lowercase());
    }
    snake
}
