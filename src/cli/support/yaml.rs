//! YAML as a flat list of nodes with byte ranges, so that a value can be changed in place.
//!
//! Aliases are never expanded, and each step through them is charged to a budget for the whole file: neither depth nor
//! repetition (a "billion laughs") takes longer than a large file without aliases. Libraries that load YAML into values
//! expand aliases and drop the styles of scalars, so the tree is built from the parser's events.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{HashMap, HashSet},
    ops::Range,
};

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, StructureStyle, options};

/// Bound of the nesting; files that people write nest a dozen levels at most.
const MAX_DEPTH: usize = 64;
/// Bound of the values of one file; the largest published rule sets have some ten thousand.
const MAX_NODES: usize = 500_000;
/// Bound of the steps and bytes looked at; a file of 8 MiB without aliases stays well below.
const BUDGET: u64 = 60_000_000;
/// Bound of merge keys (`<<`) that lead to mappings with merge keys.
const MAX_MERGES: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {text}")]
pub(crate) struct YamlError {
    line: usize,
    column: usize,
    text: String,
}

impl YamlError {
    pub(crate) fn at(place: Position, text: impl Into<String>) -> Self {
        Self { line: place.line, column: place.column, text: text.into() }
    }

    /// An error of the whole file.
    pub(crate) fn start(text: impl Into<String>) -> Self {
        Self::at(Position { line: 1, column: 1 }, text)
    }
}

/// Line and column, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Debug)]
pub(crate) struct Tree<'t> {
    nodes: Vec<Node<'t>>,
    /// The root of each document.
    documents: Vec<usize>,
    /// Nodes that an alias points to; a change there changes other values too.
    aliased: HashSet<usize>,
    spent: Cell<u64>,
}

#[derive(Debug)]
struct Node<'t> {
    kind: Kind<'t>,
    place: Position,
    /// For a block scalar: from the text of its first line on, without the header.
    bytes: Range<usize>,
    /// Whether it is inside `{}` or `[]`.
    flow: bool,
    /// Whether a tag (`!name`) stands before it.
    tagged: bool,
}

#[derive(Debug)]
enum Kind<'t> {
    /// Text, style, and its number among the scalars of the file.
    Scalar(Cow<'t, str>, ScalarStyle, usize),
    List(Vec<usize>),
    /// Keys and values in turn.
    Map(Vec<usize>),
    Alias(usize),
}

/// A reference to a node, and how it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeRef {
    node: usize,
    /// Whether it was reached through an alias or a merge key, or has aliases itself.
    pub(crate) shared: bool,
}

/// A scalar as it stands in the file.
#[derive(Clone, Debug)]
pub(crate) struct Scalar<'a> {
    pub(crate) text: &'a str,
    pub(crate) style: ScalarStyle,
    pub(crate) number: usize,
    pub(crate) bytes: Range<usize>,
    pub(crate) flow: bool,
}

impl<'t> Tree<'t> {
    /// # Errors
    /// With the position where `text` is not YAML, or exceeds a bound.
    pub(crate) fn parse(text: &'t str) -> Result<Self, YamlError> {
        let mut builder = Builder::default();
        for event in events(text) {
            let (event, span) = event?;
            builder.take(event, span)?;
        }
        Ok(Self { nodes: builder.nodes, documents: builder.documents, aliased: builder.aliased, spent: Cell::new(0) })
    }

    pub(crate) fn documents(&self) -> Vec<NodeRef> {
        self.documents.iter().map(|&node| self.resolve(node, false)).collect()
    }

    pub(crate) fn place(&self, found: NodeRef) -> Position {
        self.nodes[found.node].place
    }

    /// Whether the budget is used up; what was found since then is incomplete.
    pub(crate) fn exhausted(&self) -> bool {
        self.spent.get() > BUDGET
    }

    fn spend(&self, steps: usize) -> bool {
        self.spent.set(self.spent.get().saturating_add(steps as u64));
        !self.exhausted()
    }

    fn resolve(&self, node: usize, shared: bool) -> NodeRef {
        match self.nodes[node].kind {
            Kind::Alias(target) => NodeRef { node: target, shared: true },
            _ => NodeRef { node, shared: shared || self.aliased.contains(&node) },
        }
    }

    pub(crate) fn items(&self, list: NodeRef) -> Option<Vec<NodeRef>> {
        let Kind::List(items) = &self.nodes[list.node].kind else { return None };
        let items = if self.spend(items.len() + 1) { items.as_slice() } else { &[] };
        Some(items.iter().map(|&item| self.resolve(item, list.shared)).collect())
    }

    pub(crate) fn is_map(&self, found: NodeRef) -> bool {
        matches!(self.nodes[found.node].kind, Kind::Map(_))
    }

    /// Keys and values of a mapping, without what merge keys bring.
    fn entries(&self, map: NodeRef) -> impl Iterator<Item = (usize, usize)> {
        let entries = match &self.nodes[map.node].kind {
            Kind::Map(entries) if self.spend(entries.len() + 1) => entries.as_slice(),
            _ => &[],
        };
        entries.chunks_exact(2).map(|pair| (pair[0], pair[1]))
    }

    /// Keys and values of a mapping as written, including merge keys (`<<`).
    pub(crate) fn pairs(&self, map: NodeRef) -> Option<Vec<(NodeRef, NodeRef)>> {
        let pair = |(key, value)| (self.resolve(key, map.shared), self.resolve(value, map.shared));
        self.is_map(map).then(|| self.entries(map).map(pair).collect())
    }

    /// Whether a tag stands before it, as in `!name`.
    pub(crate) fn is_tagged(&self, found: NodeRef) -> bool {
        self.nodes[found.node].tagged
    }

    fn is_key(&self, node: usize, key: &str) -> bool {
        matches!(&self.nodes[node].kind, Kind::Scalar(text, ..) if text == key)
    }

    /// The value of `key`; the mapping's own keys win over merged ones.
    pub(crate) fn get(&self, map: NodeRef, key: &str) -> Option<NodeRef> {
        self.get_within(map, key, MAX_MERGES)
    }

    fn get_within(&self, map: NodeRef, key: &str, depth: usize) -> Option<NodeRef> {
        if let Some((_, value)) = self.entries(map).find(|&(name, _)| self.is_key(name, key)) {
            return Some(self.resolve(value, map.shared));
        }
        let (_, merged) = self.entries(map).find(|&(name, _)| self.is_key(name, "<<"))?;
        let merged = self.resolve(merged, true);
        let depth = depth.checked_sub(1)?;
        let sources = self.items(merged).unwrap_or_else(|| vec![merged]);
        sources.into_iter().find_map(|source| self.get_within(NodeRef { shared: true, ..source }, key, depth))
    }

    /// The text of a scalar that is neither null nor blank.
    pub(crate) fn text(&self, found: NodeRef) -> Option<&str> {
        let scalar = self.scalar(found)?;
        let null = scalar.style == ScalarStyle::Plain && matches!(scalar.text, "" | "~" | "null" | "Null" | "NULL");
        (!null && !scalar.text.trim().is_empty()).then_some(scalar.text)
    }

    pub(crate) fn scalar(&self, found: NodeRef) -> Option<Scalar<'_>> {
        let node = &self.nodes[found.node];
        let Kind::Scalar(text, style, number) = &node.kind else { return None };
        self.spend(text.len() + 1).then(|| Scalar {
            text,
            style: *style,
            number: *number,
            bytes: node.bytes.clone(),
            flow: node.flow,
        })
    }

    /// The first key of a block mapping, before which a line can be inserted.
    pub(crate) fn first_key(&self, map: NodeRef) -> Option<Scalar<'_>> {
        let (key, _) = self.entries(map).next()?;
        self.scalar(NodeRef { node: key, shared: map.shared }).filter(|key| !key.flow)
    }

    /// A duplicate key of the mapping, which Prometheus rejects.
    pub(crate) fn key_twice(&self, map: NodeRef) -> Option<(Position, &str)> {
        let mut seen = HashSet::new();
        self.entries(map).find_map(|(key, _)| match &self.nodes[key].kind {
            Kind::Scalar(text, ..) if text != "<<" && !seen.insert(text) => {
                Some((self.nodes[key].place, text.as_ref()))
            }
            _ => None,
        })
    }
}

type Each<'t> = Result<(Event<'t>, Span), YamlError>;

fn events(text: &str) -> impl Iterator<Item = Each<'_>> {
    let options: Options =
        options! { emit_anchor_events: false, block_nesting_limit: MAX_DEPTH, flow_nesting_limit: MAX_DEPTH };
    Parser::new_from_str_with_options(text, options).map(|event| {
        event.map_err(|error| YamlError::at(place_of(error.marker().line(), error.marker().col()), error.info()))
    })
}

fn place_of(line: usize, column: usize) -> Position {
    Position { line, column: column + 1 }
}

#[derive(Default)]
struct Builder<'t> {
    nodes: Vec<Node<'t>>,
    documents: Vec<usize>,
    aliased: HashSet<usize>,
    anchors: HashMap<usize, usize>,
    /// The open lists and mappings.
    open: Vec<usize>,
    flows: usize,
    scalars: usize,
}

impl<'t> Builder<'t> {
    fn take(&mut self, event: Event<'t>, span: Span) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.scalars += 1;
                self.push(Kind::Scalar(text, style, self.scalars - 1), span, anchor, false)?;
                self.nodes.last_mut().iter_mut().for_each(|node| node.tagged = tag.is_some());
                Ok(())
            }
            Event::SequenceStart(style, anchor, _) => {
                self.push(Kind::List(Vec::new()), span, anchor, style == StructureStyle::Flow)
            }
            Event::MappingStart(style, anchor, _) => {
                self.push(Kind::Map(Vec::new()), span, anchor, style == StructureStyle::Flow)
            }
            Event::Alias(anchor) => {
                let place = place_of(span.start.line(), span.start.col());
                let target = *self.anchors.get(&anchor).ok_or_else(|| YamlError::at(place, "an alias of nothing"))?;
                self.aliased.insert(target);
                self.push(Kind::Alias(target), span, 0, false)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if self.open.pop().is_some_and(|node| self.nodes[node].flow) {
                    self.flows -= 1;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn push(&mut self, kind: Kind<'t>, span: Span, anchor: usize, flow: bool) -> Result<(), YamlError> {
        let place = place_of(span.start.line(), span.start.col());
        let node = self.nodes.len();
        if node >= MAX_NODES {
            return Err(YamlError::at(place, format!("more than {MAX_NODES} values in one file")));
        }
        match self.open.last().map(|&parent| &mut self.nodes[parent].kind) {
            Some(Kind::List(children) | Kind::Map(children)) => children.push(node),
            _ => self.documents.push(node),
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node);
        }
        let container = matches!(kind, Kind::List(_) | Kind::Map(_));
        let flow = flow || self.flows > 0;
        let bytes = span.byte_range().unwrap_or_default();
        self.nodes.push(Node { kind, place, bytes, flow, tagged: false });
        if container {
            self.flows += usize::from(flow);
            self.open.push(node);
        }
        Ok(())
    }
}

/// An edit of a file, by its effect on the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The scalar has this text.
    Replaced(String),
    /// This key and value stand before the scalar, which is a key.
    Before(String, String),
}

/// Whether `new` differs from `old` by just these edits (by the scalar's number), with everything else equal: values, styles,
/// structure, anchors, tags.
pub(crate) fn differs_only(old: &str, new: &str, edits: &HashMap<usize, Edit>) -> bool {
    let mut new = events(new);
    let mut number = 0;
    for event in events(old) {
        let Ok((mut event, _)) = event else { return false };
        if let Event::Scalar(text, ..) = &mut event {
            match edits.get(&number) {
                Some(Edit::Replaced(value)) => *text = Cow::Owned(value.clone()),
                Some(Edit::Before(key, value)) => {
                    for expected in [key, value] {
                        let next = new.next();
                        if !matches!(&next, Some(Ok((Event::Scalar(text, ..), _))) if text == expected) {
                            return false;
                        }
                    }
                }
                None => {}
            }
            number += 1;
        }
        match new.next() {
            Some(Ok((found, _))) if found == event => {}
            _ => return false,
        }
    }
    new.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tree: &Tree<'_>, path: &[&str]) -> Option<NodeRef> {
        path.iter().try_fold(tree.documents()[0], |found, key| match key.parse::<usize>() {
            Ok(index) => tree.items(found)?.get(index).copied(),
            Err(_) => tree.get(found, key),
        })
    }

    #[test]
    fn values_know_their_bytes_and_lines() {
        let text =
            "\u{feff}a: ü\r\nb:\r\n  - 'it''s'\r\n  - {c: \"x\\ty\"}\r\n  - >-\r\n    two\r\n    lines\r\nn: ~\r\n";
        let tree = Tree::parse(text).unwrap();
        for (path, value, bytes, line, column) in [
            (&["a"][..], "ü", "ü", 1, 4),
            (&["b", "0"], "it's", "'it''s'", 3, 5),
            (&["b", "1", "c"], "x\ty", "\"x\\ty\"", 4, 9),
            (&["b", "2"], "two lines", "two\r\n    lines\r\n", 6, 5),
        ] {
            let found = at(&tree, path).unwrap();
            let scalar = tree.scalar(found).unwrap();
            assert_eq!((scalar.text, &text[scalar.bytes]), (value, bytes), "{path:?}");
            assert_eq!(tree.place(found), Position { line, column }, "{path:?}");
        }
        assert!(tree.scalar(at(&tree, &["b", "1", "c"]).unwrap()).unwrap().flow);
        assert_eq!(tree.text(at(&tree, &["n"]).unwrap()), None);
    }

    #[test]
    fn aliases_and_merges_are_followed_and_marked() {
        let text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\nd: {<<: [*a], z: 1}\ne: {x: 1}\n";
        let tree = Tree::parse(text).unwrap();
        for (path, value, shared) in [
            (["a", "x"], "1", true),
            (["b", "x"], "3", false),
            (["b", "y"], "2", true),
            (["c", "x"], "1", true),
            (["d", "y"], "2", true),
            (["e", "x"], "1", false),
        ] {
            let found = at(&tree, &path).unwrap();
            assert_eq!((tree.text(found), found.shared), (Some(value), shared), "{path:?}");
        }
        let twice = Tree::parse("a: 1\nb: 2\n'a': 3\n").unwrap();
        assert_eq!(twice.key_twice(twice.documents()[0]), Some((Position { line: 3, column: 1 }, "a")));
    }

    #[test]
    fn errors_have_a_position() {
        for (text, place) in [("a: [1", "1:"), ("a: b: c", "1:5: "), ("x: 1\ny: *no\n", "2:4: "), ("a:\n - {", "2:")] {
            let bad = Tree::parse(text).unwrap_err().to_string();
            assert!(bad.starts_with(place), "{text:?}: {bad}");
        }
    }

    #[test]
    fn hostile_files_end_soon() {
        for deep in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
            Tree::parse(&deep).unwrap_err();
        }
        assert!(Tree::parse(&"- a\n".repeat(MAX_NODES + 1)).unwrap_err().to_string().contains("more than"));
        let mut laughs = String::from("a0: &a0 [lol, lol]\n");
        for level in 1..60 {
            use std::fmt::Write as _;
            let _ = writeln!(laughs, "a{level}: &a{level} [*a{0}, *a{0}, *a{0}]", level - 1);
        }
        let tree = Tree::parse(&laughs).unwrap();
        assert_eq!(tree.items(at(&tree, &["a59"]).unwrap()).unwrap().len(), 3);
        // A mapping that merges itself, and a budget that ends the looking.
        let tree = Tree::parse("a: &a {<<: *a, b: 1}\n").unwrap();
        assert_eq!(at(&tree, &["a", "c"]), None);
        let many: Vec<String> = (0..100_000).map(|key| format!("k{key}: 1\n")).collect();
        let many = many.concat();
        let tree = Tree::parse(&many).unwrap();
        let mut looks = 0;
        while !tree.exhausted() {
            tree.get(tree.documents()[0], "nothing");
            looks += 1;
        }
        assert!(looks < 1000, "{looks}");
    }

    #[test]
    fn an_edit_that_touches_more_is_seen() {
        let old = "a: 1 # c\nb: {c: 2}\n";
        let meant = HashMap::from([(1, Edit::Replaced("9".to_owned()))]);
        for (new, good) in [
            ("a: 9 # c\nb: {c: 2}\n", true),
            ("a: 1 # c\nb: {c: 2}\n", false),
            ("a: 9 # c\nb: {c: 3}\n", false),
            ("a: '9' # c\nb: {c: 2}\n", false),
            ("a: 9 # c\nb: {c: 2}\nd: 1\n", false),
            ("a: 9 # c\nb: {c: 2\n", false),
        ] {
            assert_eq!(differs_only(old, new, &meant), good, "{new}");
        }
        let before = HashMap::from([(3, Edit::Before("x".to_owned(), "y".to_owned()))]);
        assert!(differs_only(old, "a: 1\nb: {x: y, c: 2}\n", &before));
        assert!(!differs_only(old, "a: 1\nb: {c: 2, x: y}\n", &before));
    }
}
