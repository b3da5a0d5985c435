//! The checker itself, on small sources that are made up.

use crate::graph::Graph;
use crate::names::Names;
use crate::source::Source;

/// The circles in `src/room` of a crate with these files.
fn cycles(files: &[(&str, &str)]) -> Vec<String> {
    let source = |(path, text): &(&str, &str)| Source::new("src", path, (*text).to_owned());
    Graph::of(files.iter().map(source).collect()).cycles_in("src/room")
}

const ROOT: (&str, &str) = ("src/lib.rs", "mod room;\nmod other;\n");

#[test]
fn a_circle_of_two_files_is_found_with_its_lines() {
    let found = cycles(&[
        ROOT,
        ("src/room/mod.rs", "mod a;\nmod b;\n"),
        ("src/room/a.rs", "//! A.\nuse super::b::B;\npub struct A(B);\n"),
        ("src/room/b.rs", "pub struct B;\nfn b(_: &crate::room::a::A) {}\n"),
    ]);
    assert_eq!(found, ["src/room/a.rs:2 (super::b::B) -> src/room/b.rs:2 (crate::room::a::A) -> src/room/a.rs"]);
}

#[test]
fn a_circle_of_three_files_is_found_once() {
    let found = cycles(&[
        ROOT,
        ("src/room/mod.rs", "mod a;\nmod b;\nmod c;\n"),
        ("src/room/a.rs", "use super::{b::B, c};\npub fn a(b: B) {}\n"),
        ("src/room/b.rs", "use super::c::{self as sea};\npub struct B;\nfn b() { sea::c(1) }\n"),
        ("src/room/c.rs", "pub fn c(b: u8) { super::a::a(b) }\n"),
    ]);
    assert_eq!(
        found,
        ["src/room/a.rs:1 (super::b::B) -> src/room/b.rs:3 (sea::c) -> src/room/c.rs:1 (super::a::a) -> src/room/a.rs"]
    );
}

#[test]
fn what_a_folder_defines_itself_closes_a_circle_with_what_it_uses() {
    for import in ["super::Shared", "crate::room::Shared", "super::*"] {
        let found = cycles(&[
            ROOT,
            ("src/room/mod.rs", "mod a;\nuse a::A;\npub struct Shared(A);\n"),
            ("src/room/a.rs", &format!("use {import};\npub struct A;\nfn a(_: Shared) {{}}\n")),
        ]);
        assert_eq!(found.len(), 1, "{import}: {found:?}");
    }
}

#[test]
fn a_reexport_that_the_folder_uses_itself_is_a_need() {
    let found = cycles(&[
        ROOT,
        ("src/room/mod.rs", "mod a;\npub use a::A;\npub struct Shared(A);\n"),
        ("src/room/a.rs", "pub struct A(Box<super::Shared>);\n"),
    ]);
    assert_eq!(found, ["src/room/mod.rs:3 (A) -> src/room/a.rs:1 (super::Shared) -> src/room/mod.rs"]);
}

#[test]
fn a_facade_is_no_circle() {
    let found = cycles(&[
        ROOT,
        ("src/room/mod.rs", "mod a;\nmod b;\npub use a::A;\npub(crate) use b::B;\npub use crate::other::Other;\n"),
        ("src/room/a.rs", "use super::{B, Other};\npub struct A(B, Other);\n"),
        ("src/room/b.rs", "pub struct B;\n"),
        ("src/other.rs", "use crate::room::A;\npub struct Other;\n"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn names_are_followed_through_the_facade_to_their_files() {
    let found = cycles(&[
        ROOT,
        ("src/room/mod.rs", "mod a;\nmod b;\npub use a::A;\npub use b::*;\n"),
        ("src/room/a.rs", "use super::B;\npub struct A(B);\n"),
        ("src/room/b.rs", "use crate::room::A;\npub enum B { One(Box<A>) }\n"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_module_is_not_taken_for_a_function_of_its_name() {
    let found = cycles(&[
        ROOT,
        ("src/room/mod.rs", "mod a;\nuse a::A;\nfn a(_: A) {}\n"),
        (
            "src/room/a.rs",
            "use super::a;\nuse crate::room::a::{self as also, A as B};\npub struct A;\nfn c(_: B) { a::c(also::A) }\n",
        ),
    ]);
    assert_eq!(found, [""; 0]);
    let found = cycles(&[
        ROOT,
        ("src/room/mod.rs", "mod a;\nuse a::A;\nfn a(_: A) {}\n"),
        ("src/room/a.rs", "use super::a;\npub struct A;\nfn c() { a(A) }\n"),
    ]);
    assert_eq!(found, ["src/room/mod.rs:2 (a::A) -> src/room/a.rs:3 (a) -> src/room/mod.rs"]);
}

#[test]
fn tests_and_comments_do_not_count() {
    let found = cycles(&[
        ROOT,
        ("src/room/mod.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod rig;\n"),
        ("src/room/a.rs", "use super::b::B;\npub struct A(B);\n"),
        (
            "src/room/b.rs",
            "//! [`A`](super::a::A).\n#[cfg(test)]\nuse super::a::{A};\n/// As super::a::A.\npub struct B;\n\
             #[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}\n",
        ),
        ("src/room/rig.rs", "use super::{a::A, b::B};\npub struct Rig(A, B);\n"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn methods_of_a_type_in_several_files_are_needs() {
    let files = |call| {
        [
            ROOT,
            ("src/room/mod.rs", "mod a;\nmod b;\nmod owner;\n"),
            ("src/room/owner.rs", "pub struct Owner<C>(C);\n"),
            (
                "src/room/a.rs",
                "use super::owner::Owner;\nimpl<C: Fn() -> u8> Owner<C> {\n  fn a(&self) { self.b(); }\n}\n",
            ),
            ("src/room/b.rs", call),
        ]
    };
    let calls = [
        "use super::owner::Owner;\nimpl<C> Owner<C> {\n  fn b(&self) { self.a(); }\n}\n",
        "use super::owner::Owner;\nimpl<C> Owner<C> {\n  fn b(&self) { Self::a(self); }\n}\n",
        "use super::owner::Owner;\nimpl<C> Owner<C> {\n  fn b(owner: &Self) { owner.a(); }\n}\n",
        "use super::owner::Owner;\nimpl<C> Owner<C> {\n  fn b(&self) {}\n}\nimpl<C> Drop for Owner<C> {\n  fn drop(&mut self) { self.a(); }\n}\n",
    ];
    for call in calls {
        let found = cycles(&files(call));
        assert_eq!(found.len(), 1, "{call}: {found:?}");
        assert!(found[0].starts_with("src/room/a.rs:3 (b()) -> src/room/b.rs:"), "{}", found[0]);
    }
    let one_way = "use super::owner::Owner;\nimpl<C> Owner<C> {\n  fn b(&self) { self.c(); self.field.a(); }\n  fn c(&self) {}\n}\n";
    assert_eq!(cycles(&files(one_way)), [""; 0]);
}

#[test]
fn fields_methods_and_lines_are_counted() {
    let names = Names::of(
        "/// A struct.\npub struct Owner<C: Chain> {\n    a: Map<u8, std::vec::Vec<u8>>,\n    pub(crate) b: fn(u8) -> C,\n}\n\
         impl<C: Chain> Owner<C>\nwhere\n    C: Send,\n{\n    fn one(&self) {\n        fn inner() {}\n    }\n    pub const fn two() {}\n}\n\
         impl<C: Chain> Drop for Owner<C> {\n    fn drop(&mut self) {}\n}\n",
    );
    assert_eq!(names.fields["Owner"], 2);
    let methods: Vec<&str> = names.methods.iter().map(|(_, method)| method.as_str()).collect();
    assert_eq!(methods, ["one", "two"]);
    let lines: Vec<(&str, usize)> = names.impls.iter().map(|block| (block.of.as_str(), block.lines)).collect();
    assert_eq!(lines, [("Owner", 9), ("Owner", 3)]);
}
