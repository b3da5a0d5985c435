//! What one source file says: what it defines, imports and names, and which methods it has and calls. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The words that a definition begins with.
const KEYWORDS: [&str; 8] = ["struct", "enum", "union", "trait", "fn", "type", "const", "static"];

/// What a source file says.
#[derive(Default)]
pub struct Names {
    /// Items, by name.
    pub defined: BTreeSet<String>,
    /// What `use` brings in: the name here, and its path.
    pub imported: BTreeMap<String, Vec<String>>,
    /// Modules of which everything is brought in.
    pub globs: Vec<Vec<String>>,
    /// Paths in its code and its private imports. Re-exports are not among them: a facade depends on nothing.
    pub named: Vec<Named>,
    pub impls: Vec<Impl>,
    /// The functions in the `impl` blocks of a type, each with that type. Those of traits are not among them.
    pub methods: BTreeSet<(String, String)>,
    pub calls: Vec<Call>,
    /// How many fields a struct has.
    pub fields: BTreeMap<String, usize>,
    /// Modules that are there for tests alone.
    pub test_modules: BTreeSet<String>,
}

/// A path that is named.
pub struct Named {
    pub path: Vec<String>,
    pub line: usize,
    /// By an import: if it is a module, too, only what is made of it counts.
    pub import: bool,
}

/// An `impl` block.
pub struct Impl {
    /// The name of its type.
    pub of: String,
    pub line: usize,
    pub lines: usize,
}

/// A call of a method.
pub struct Call {
    pub on: On,
    pub method: String,
    pub line: usize,
}

/// Whose method is called.
#[derive(Debug, PartialEq)]
pub enum On {
    /// That of this type: `self` in its `impl` block, or the name of the type itself.
    Type(String),
    /// That of a variable.
    Variable(String),
}

/// Where in a file one reads.
#[derive(Clone, Default)]
struct Place {
    /// Among items, not within one.
    items: bool,
    /// How many `mod name { .. }` are around it.
    inline: usize,
    /// The type of the `impl` block around it.
    within: Option<String>,
}

impl Names {
    /// Reads a file.
    pub fn of(text: &str) -> Self {
        let tokens: TokenStream = text.parse().expect("a source file is Rust");
        let mut names = Names::default();
        names.walk(tokens, &Place { items: true, ..Place::default() });
        names
    }

    fn walk(&mut self, stream: TokenStream, place: &Place) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.step(&tokens, at, place);
        }
    }

    /// Reads what begins at `at`; returns where the next thing begins.
    fn step(&mut self, tokens: &[TokenTree], at: usize, place: &Place) -> usize {
        match &tokens[at] {
            TokenTree::Group(group) => {
                // What a macro is given are items, where items stand.
                let items = place.items && at > 0 && is_punct(tokens, at - 1, '!');
                self.walk(group.stream(), &Place { items, ..place.clone() });
                at + 1
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                '#' => self.attribute(tokens, at),
                '.' => self.member(tokens, at, place),
                // A lifetime.
                '\'' => at + 2,
                _ => at + 1,
            },
            TokenTree::Ident(ident) => match ident.to_string().as_str() {
                "use" if !is_punct(tokens, at + 1, '<') => self.import(tokens, at, place),
                "mod" => self.inline_module(tokens, at, place),
                "impl" if place.items => self.implementation(tokens, at, place),
                "macro_rules" if place.items => {
                    self.define(word(tokens, at + 2), place);
                    at + 3
                }
                keyword if place.items && KEYWORDS.contains(&keyword) => self.definition(tokens, at, place),
                _ => self.path(tokens, at, place),
            },
            TokenTree::Literal(_) => at + 1,
        }
    }

    /// `#[..]`, with the item that follows if that is there for tests alone.
    fn attribute(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        let bracket = at + 1 + usize::from(is_punct(tokens, at + 1, '!'));
        let Some(TokenTree::Group(group)) = tokens.get(bracket) else { return at + 1 };
        let text: String = group.stream().to_string().split_whitespace().collect();
        if text != "cfg(test)" {
            return bracket + 1;
        }
        let mut end = bracket + 1;
        let import = (end..tokens.len().min(end + 3)).any(|at| word(tokens, at).as_deref() == Some("use"));
        while let Some(token) = tokens.get(end) {
            if word(tokens, end).as_deref() == Some("mod") {
                self.test_modules.extend(word(tokens, end + 1));
            }
            end += 1;
            let body = matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
            if is_punct(tokens, end - 1, ';') || (body && !import) {
                break;
            }
        }
        end
    }

    /// `.method(`, or `.field`.
    fn member(&mut self, tokens: &[TokenTree], at: usize, place: &Place) -> usize {
        let range = is_punct(tokens, at + 1, '.') || (at > 0 && is_punct(tokens, at - 1, '.'));
        let Some(method) = word(tokens, at + 1).filter(|_| !range) else { return at + 1 };
        let called = is_parenthesis(tokens, at + 2) || is_path_separator(tokens, at + 2);
        let receiver = at.checked_sub(1).and_then(|before| word(tokens, before));
        if let Some(receiver) = receiver.filter(|_| called) {
            let line = tokens[at].span().start().line;
            match &place.within {
                Some(own) if receiver == "self" => {
                    self.calls.push(Call { on: On::Type(own.clone()), method, line });
                }
                _ => self.calls.push(Call { on: On::Variable(receiver), method, line }),
            }
        }
        at + 2
    }

    /// `use ..;`: a private one names, one with a visibility only hands on.
    fn import(&mut self, tokens: &[TokenTree], at: usize, place: &Place) -> usize {
        let mut leaves = Vec::new();
        let end = leaves_of(tokens, at + 1, Vec::new(), &mut leaves);
        let before = |back| at.checked_sub(back).and_then(|at| word(tokens, at));
        let restricted = at > 0 && is_parenthesis(tokens, at - 1) && before(2).as_deref() == Some("pub");
        let handed_on = restricted || before(1).as_deref() == Some("pub");
        for Leaf { path, alias, glob, line } in leaves {
            let path = without_inline(path, place.inline);
            if !handed_on {
                self.named.push(Named { path: path.clone(), line, import: true });
            }
            if place.inline > 0 {
                continue;
            }
            if glob {
                self.globs.push(path);
            } else if let Some(name) = alias.or_else(|| path.iter().rfind(|name| *name != "self").cloned()) {
                self.imported.entry(name).or_insert(path);
            }
        }
        end
    }

    /// `mod name { .. }`. Its inside counts as the file's.
    fn inline_module(&mut self, tokens: &[TokenTree], at: usize, place: &Place) -> usize {
        if let Some(TokenTree::Group(group)) = tokens.get(at + 2) {
            self.define(word(tokens, at + 1), place);
            self.walk(group.stream(), &Place { items: true, inline: place.inline + 1, within: None });
        }
        at + 3
    }

    fn implementation(&mut self, tokens: &[TokenTree], at: usize, place: &Place) -> usize {
        let is_body = |token: &TokenTree| matches!(token, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace);
        let Some(body) = (at..tokens.len()).find(|at| is_body(&tokens[*at])) else { return at + 1 };
        let header = Place { items: false, ..place.clone() };
        let mut next = at + 1;
        while next < body {
            next = self.step(tokens, next, &header);
        }
        let TokenTree::Group(group) = &tokens[body] else { return body };
        let (of, of_trait) = type_of_impl(&tokens[at + 1..body]);
        let line = tokens[at].span().start().line;
        let lines = group.span_close().end().line + 1 - line;
        let inside: Vec<TokenTree> = group.stream().into_iter().collect();
        for at in (0..inside.len()).filter(|at| !of_trait && word(&inside, *at).as_deref() == Some("fn")) {
            self.methods.extend(word(&inside, at + 1).map(|method| (of.clone(), method)));
        }
        self.impls.push(Impl { of: of.clone(), line, lines });
        self.walk(group.stream(), &Place { within: Some(of), ..header });
        body + 1
    }

    fn definition(&mut self, tokens: &[TokenTree], at: usize, place: &Place) -> usize {
        let Some(name) = word(tokens, at + 1).filter(|name| !KEYWORDS.contains(&name.as_str())) else { return at + 1 };
        if word(tokens, at).as_deref() == Some("struct") {
            let ends = |token: &TokenTree| match token {
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                TokenTree::Punct(punct) => punct.as_char() == ';',
                _ => false,
            };
            if let Some(TokenTree::Group(body)) = tokens[at..].iter().find(|token| ends(token)) {
                self.fields.insert(name.clone(), fields_in(body.stream()));
            }
        }
        self.define(Some(name), place);
        at + 2
    }

    fn define(&mut self, name: Option<String>, place: &Place) {
        self.defined.extend(name.filter(|_| place.inline == 0));
    }

    /// `a::b::c`, or a name alone.
    fn path(&mut self, tokens: &[TokenTree], at: usize, place: &Place) -> usize {
        let line = tokens[at].span().start().line;
        let mut path: Vec<String> = word(tokens, at).into_iter().collect();
        let mut end = at + 1;
        while is_path_separator(tokens, end)
            && let Some(next) = word(tokens, end + 2)
        {
            path.push(next);
            end += 3;
        }
        // `::std`, or what follows `<Type>`.
        if at >= 2 && is_path_separator(tokens, at - 2) {
            return end;
        }
        if let [.., of, method] = path.as_slice() {
            let of = place.within.clone().filter(|_| of == "Self").unwrap_or_else(|| of.clone());
            self.calls.push(Call { on: On::Type(of), method: method.clone(), line });
        }
        // A field, an argument or a variable that is called as something else is.
        let bound = at > 0 && ["let", "mut"].contains(&word(tokens, at - 1).unwrap_or_default().as_str());
        if path.len() > 1 || !(bound || is_punct(tokens, end, ':')) {
            self.named.push(Named { path: without_inline(path, place.inline), line, import: false });
        }
        end
    }
}

/// One name that an import brings in.
struct Leaf {
    path: Vec<String>,
    alias: Option<String>,
    glob: bool,
    line: usize,
}

/// Reads one tree of an import; returns where it ends.
fn leaves_of(tokens: &[TokenTree], mut at: usize, mut path: Vec<String>, leaves: &mut Vec<Leaf>) -> usize {
    let line = tokens.get(at).map_or(0, |token| token.span().start().line);
    let (mut alias, mut glob) = (None, false);
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) if ident == "as" => {
                alias = word(tokens, at + 1);
                at += 1;
            }
            Some(TokenTree::Ident(ident)) => path.push(ident.to_string()),
            Some(TokenTree::Group(group)) => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut next = 0;
                while next < inside.len() {
                    next = leaves_of(&inside, next, path.clone(), leaves) + 1;
                }
                return at + 1;
            }
            Some(TokenTree::Punct(punct)) if punct.as_char() == ':' => {}
            Some(TokenTree::Punct(punct)) if punct.as_char() == '*' => glob = true,
            _ => break,
        }
        at += 1;
    }
    if !path.is_empty() {
        leaves.push(Leaf { path, alias, glob, line });
    }
    at
}

/// A path as the file says it that has `inline` modules around it.
fn without_inline(mut path: Vec<String>, inline: usize) -> Vec<String> {
    let supers = path.iter().take(inline).take_while(|name| *name == "super").count();
    if supers > 0 {
        path.splice(..supers, ["self".to_owned()]);
    }
    path
}

/// The name of the type that an `impl` block is of, and whether it is for a trait; from what stands before its body.
fn type_of_impl(header: &[TokenTree]) -> (String, bool) {
    let (mut depth, mut of, mut of_trait) = (0, String::new(), false);
    for (at, token) in header.iter().enumerate() {
        match token {
            TokenTree::Punct(punct) => depth += angle(header, at, punct.as_char()),
            TokenTree::Ident(ident) if depth == 0 && ident == "where" => break,
            TokenTree::Ident(ident) if depth == 0 && ident == "for" => of_trait = true,
            TokenTree::Ident(ident) if depth == 0 => of = ident.to_string(),
            _ => {}
        }
    }
    (of, of_trait)
}

/// How many fields there are between the braces of a struct.
fn fields_in(stream: TokenStream) -> usize {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let (mut depth, mut fields) = (0, 0);
    for (at, token) in tokens.iter().enumerate() {
        if let TokenTree::Punct(punct) = token {
            depth += angle(&tokens, at, punct.as_char());
            // The colon behind the name of a field.
            let in_path = is_path_separator(&tokens, at) || (at > 0 && is_path_separator(&tokens, at - 1));
            fields += usize::from(depth == 0 && punct.as_char() == ':' && !in_path);
        }
    }
    fields
}

/// What an angle bracket does to the depth.
fn angle(tokens: &[TokenTree], at: usize, char: char) -> i32 {
    let arrow = at > 0 && (is_punct(tokens, at - 1, '-') || is_punct(tokens, at - 1, '='));
    match char {
        '<' => 1,
        '>' if !arrow => -1,
        _ => 0,
    }
}

fn word(tokens: &[TokenTree], at: usize) -> Option<String> {
    match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, char: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == char) && !is_path_separator(tokens, at)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1)
}

fn is_parenthesis(tokens: &[TokenTree], at: usize) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
}
