//! From the tokens of an expression to the program that minijinja compiles.
//!
//! Three things change on the way. References become variables `_r0`, `_r1`, … in the order they are
//! written. `a * b` becomes `(a)|_times(b)`, `a ~ b` becomes `(a)|_concat(b)` and `a < b <= c` becomes
//! `(a)|_compare('<', b, '<=', c)`, because minijinja's own operators repeat text a hundred million times over,
//! write None where JSON has null, and find that null is less than any number. And whatever is not on the list
//! of what expressions may use is refused here, before a run meets it.

use super::engine;
use super::lexer::{Kind, Token};
use super::reference::{LATER_ROOTS, Names, ROOTS, Reference};
use crate::workflow::{closest, list_of};

/// How many operators, brackets and filters an expression may have: each nests the compiler's recursion.
const OPERATORS_MAX: usize = 256;
/// `+` copies the text that it joins, again and again when it is chained, and nobody counts.
const JOINS_MAX: usize = 16;
/// Colons in `value[start:stop:step]`: each slice of text is a copy of it that nobody counts.
const SLICE_COLONS_MAX: usize = 6;
/// Brackets that were written, and those that the translation adds. Compiling one takes 30 KiB of stack
/// without optimization.
const BRACKET_DEPTH_MAX: usize = 24;

pub(super) struct Translation {
    pub references: Vec<Reference>,
    pub program: String,
    /// The expression is one reference and nothing else.
    pub is_reference: bool,
}

pub(super) fn translate(tokens: &[Token<'_>], names: Names<'_>) -> Result<Translation, String> {
    if tokens.is_empty() {
        return Err("the expression is empty".into());
    }
    let mut translator =
        Translator { tokens, names, at: 0, references: Vec::new(), operators: 0, joins: 0, colons: 0 };
    let program = translator.sequence(None, 0)?;
    if nesting(&program) > BRACKET_DEPTH_MAX {
        return Err(TOO_DEEP.into());
    }
    let is_reference = translator.references.len() == 1 && program.trim() == "_r0";
    Ok(Translation { references: translator.references, program, is_reference })
}

/// Python reads `a == b < c` as `a == b and b < c`, and nobody else does.
const MIXED: &str =
    "`<`, `<=`, `>` and `>=` stand in no chain with `==`, `!=` and `in`: use `and`, or brackets";

const TOO_DEEP: &str = "brackets, products or joined texts nest too deep";

/// How deep brackets nest, those inside texts aside.
fn nesting(program: &str) -> usize {
    let (mut depth, mut deepest, mut quote, mut is_escaped) = (0usize, 0, None, false);
    for byte in program.bytes() {
        match (quote, byte) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), b'\\') => is_escaped = true,
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    deepest
}

struct Translator<'a> {
    tokens: &'a [Token<'a>],
    names: Names<'a>,
    at: usize,
    references: Vec<Reference>,
    operators: usize,
    joins: usize,
    colons: usize,
}

/// What is written between two brackets, so far.
struct Level {
    out: String,
    /// Where the current chain of `*`, `/`, `//` and `%` begins.
    factors_start: usize,
    /// A `|_times(` waits for its closing bracket.
    is_times_open: bool,
    /// The chain so far ends with a `|_times(…)`, which takes another one as it is.
    is_product: bool,
    /// Where the current chain of `~` begins. It binds weaker than `*` and stronger than `+`.
    parts_start: usize,
    /// A `|_concat(` waits for its closing bracket.
    is_concat_open: bool,
    is_concatenation: bool,
    /// Where the current chain of comparisons begins. They bind weaker than all of the above.
    compared_start: usize,
    /// A `|_compare(` waits for its closing bracket.
    is_comparison_open: bool,
    /// The chain so far has an `==`, `!=`, `in` or `not in`.
    has_equality: bool,
    /// The last token ended an operand: what follows is an operator.
    after_operand: bool,
    /// The last token may be called: a function's, filter's or test's name.
    after_callable: bool,
}

impl Level {
    fn push(&mut self, text: &str) {
        self.out.push(' ');
        self.out.push_str(text);
        self.after_callable = false;
    }

    fn operand(&mut self, text: &str) {
        self.push(text);
        self.after_operand = true;
    }

    fn end_factor(&mut self) {
        if self.is_times_open {
            self.out.push(')');
            self.is_times_open = false;
            self.is_product = true;
        }
    }

    fn end_part(&mut self) {
        self.end_factor();
        if self.is_concat_open {
            self.out.push(')');
            self.is_concat_open = false;
            self.is_concatenation = true;
        }
    }

    fn end_comparison(&mut self) -> Result<(), String> {
        self.end_part();
        if self.is_comparison_open {
            if !self.after_operand {
                return Err("a comparison has nothing on its right".into());
            }
            self.out.push(')');
            self.is_comparison_open = false;
        }
        Ok(())
    }

    /// An operator that binds weaker than comparisons, or a separator.
    fn break_all(&mut self, text: &str) -> Result<(), String> {
        self.end_comparison()?;
        self.break_chain(text);
        self.compared_start = self.out.len();
        self.has_equality = false;
        Ok(())
    }

    /// `==`, `!=`, `in` or `not in`, which are minijinja's.
    fn equality(&mut self, text: &str) -> Result<(), String> {
        if self.is_comparison_open {
            return Err(MIXED.into());
        }
        self.break_chain(text);
        self.has_equality = true;
        Ok(())
    }

    fn comparison(&mut self, operator: &str) -> Result<(), String> {
        if !self.after_operand {
            return Err(format!("`{operator}` has nothing on its left"));
        }
        if self.has_equality {
            return Err(MIXED.into());
        }
        self.end_part();
        if self.is_comparison_open {
            self.out.push_str(", ");
        } else {
            self.out.insert(self.compared_start, '(');
            self.out.push_str(")|_compare(");
            self.is_comparison_open = true;
        }
        self.break_chain(&format!("'{operator}',"));
        Ok(())
    }

    /// An operator that binds weaker than `~`, or a separator.
    fn break_chain(&mut self, text: &str) {
        self.end_part();
        self.push(text);
        self.factors_start = self.out.len();
        self.parts_start = self.out.len();
        self.is_product = false;
        self.is_concatenation = false;
        self.after_operand = false;
    }

    fn times(&mut self) {
        self.end_factor();
        if !self.is_product {
            self.out.insert(self.factors_start, '(');
            self.out.push(')');
        }
        self.out.push_str("|_times(");
        self.is_times_open = true;
        self.after_operand = false;
    }

    fn concat(&mut self) {
        self.end_part();
        if !self.is_concatenation {
            self.out.insert(self.parts_start, '(');
            self.out.push(')');
        }
        self.out.push_str("|_concat(");
        self.is_concat_open = true;
        self.factors_start = self.out.len();
        self.is_product = false;
        self.after_operand = false;
    }
}

impl Translator<'_> {
    /// Up to the closing bracket, or to the end.
    fn sequence(&mut self, close: Option<&str>, depth: usize) -> Result<String, String> {
        let mut level = Level {
            out: String::new(),
            factors_start: 0,
            is_times_open: false,
            is_product: false,
            parts_start: 0,
            is_concat_open: false,
            is_concatenation: false,
            compared_start: 0,
            is_comparison_open: false,
            has_equality: false,
            after_operand: false,
            after_callable: false,
        };
        while let Some(token) = self.tokens.get(self.at).copied() {
            if close.is_some_and(|close| token.is(close)) {
                self.at += 1;
                level.end_comparison()?;
                return Ok(level.out);
            }
            match token.kind {
                Kind::Text | Kind::Number => {
                    self.at += 1;
                    level.operand(token.text);
                }
                Kind::Name => self.name(token, &mut level)?,
                Kind::Symbol => self.symbol(token, &mut level, close, depth)?,
            }
        }
        match close {
            Some(close) => Err(format!("a bracket is not closed: `{close}` is missing")),
            None => {
                level.end_comparison()?;
                Ok(level.out)
            }
        }
    }

    fn name(&mut self, token: Token<'_>, level: &mut Level) -> Result<(), String> {
        let next = self.tokens.get(self.at + 1);
        match token.text {
            "in" => {
                self.count()?;
                self.at += 1;
                level.equality(token.text)?;
            }
            // `not in`
            "not" if level.after_operand => {
                self.count()?;
                self.at += 1;
                level.equality(token.text)?;
            }
            "and" | "or" | "not" | "if" | "else" => {
                self.count()?;
                self.at += 1;
                level.break_all(token.text)?;
            }
            "is" => self.test(level)?,
            "true" | "false" | "none" | "True" | "False" | "None" => {
                self.at += 1;
                level.operand(token.text);
            }
            // People who think in JSON write null.
            "null" => {
                self.at += 1;
                level.operand("none");
            }
            // The name of a keyword argument.
            _ if next.is_some_and(|next| next.is("=")) => {
                self.at += 1;
                level.push(token.text);
            }
            _ if next.is_some_and(|next| next.is("(")) => {
                known("function", token.text, engine::FUNCTIONS.iter().copied())?;
                self.at += 1;
                level.operand(token.text);
                level.after_callable = true;
            }
            root if ROOTS.contains(&root) || self.names.contain(root) => {
                let (reference, length) = Reference::read(&self.tokens[self.at..], self.names)?;
                self.at += length;
                level.operand(&format!("_r{}", self.references.len()));
                self.references.push(reference);
            }
            _ => return Err(self.unknown(token)),
        }
        Ok(())
    }

    fn unknown(&self, token: Token<'_>) -> String {
        if LATER_ROOTS.contains(&token.text) {
            return format!("`{}` is not there yet in this version", token.text);
        }
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        if token.is_glued && before.is_some_and(|before| before.is("-") && before.is_glued) {
            return format!(
                "`{}` is not known here; a name with a hyphen is written in brackets, as in nodes['a-b'].output",
                token.text
            );
        }
        let hint = match closest(token.text, ROOTS.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("an expression starts at {}", list_of(ROOTS, "or")),
        };
        format!("`{}` is not known here; {hint}", token.text)
    }

    fn test(&mut self, level: &mut Level) -> Result<(), String> {
        self.count()?;
        self.at += 1;
        level.push("is");
        if self.tokens.get(self.at).is_some_and(|token| token.is_word("not")) {
            self.at += 1;
            level.push("not");
        }
        let Some(name) = self.tokens.get(self.at).filter(|token| token.kind == Kind::Name) else {
            return Err("after `is` stands the name of a test, as in `is defined`".into());
        };
        known("test", name.text, engine::test_names())?;
        self.at += 1;
        level.operand(name.text);
        level.after_callable = true;
        Ok(())
    }

    fn symbol(
        &mut self,
        token: Token<'_>,
        level: &mut Level,
        close: Option<&str>,
        depth: usize,
    ) -> Result<(), String> {
        self.at += 1;
        match token.text {
            ":" if close == Some("]") => {
                self.colons += 1;
                if self.colons > SLICE_COLONS_MAX {
                    return Err("an expression has a few slices at most".into());
                }
                level.break_all(token.text)?;
            }
            "," | ":" | "=" => level.break_all(token.text)?,
            ")" | "]" | "}" => return Err(format!("`{}` closes nothing", token.text)),
            "(" | "[" | "{" => {
                self.count()?;
                self.bracket(token.text, level, depth)?;
            }
            "." => {
                self.count()?;
                self.attribute(level)?;
            }
            "|" => {
                self.count()?;
                self.filter(level)?;
            }
            "*" | "/" | "//" | "%" | "**" | "~" => self.factor(token.text, level)?,
            "-" if !level.after_operand => {
                self.count()?;
                level.push("-");
            }
            "+" => {
                self.count()?;
                self.joins += 1;
                if self.joins > JOINS_MAX {
                    return Err(format!("more than {JOINS_MAX} uses of `+`; text is joined by `~`"));
                }
                level.break_chain(token.text);
            }
            "<" | "<=" | ">" | ">=" => {
                self.count()?;
                level.comparison(token.text)?;
            }
            "==" | "!=" => {
                self.count()?;
                level.equality(token.text)?;
            }
            _ => {
                self.count()?;
                level.break_chain(token.text);
            }
        }
        Ok(())
    }

    fn factor(&mut self, operator: &str, level: &mut Level) -> Result<(), String> {
        self.count()?;
        if !level.after_operand {
            return Err(format!("`{operator}` has nothing on its left"));
        }
        match operator {
            "*" => level.times(),
            "~" => level.concat(),
            "**" => {
                level.push("**");
                level.after_operand = false;
            }
            _ => {
                level.end_factor();
                level.push(operator);
                level.is_product = false;
                level.after_operand = false;
            }
        }
        Ok(())
    }

    fn bracket(&mut self, open: &str, level: &mut Level, depth: usize) -> Result<(), String> {
        let close = match open {
            "(" if level.after_operand && !level.after_callable => {
                return Err("values can't be called; use a filter, as in `name | upper`".into());
            }
            "(" => ")",
            "[" => "]",
            _ => "}",
        };
        if depth >= BRACKET_DEPTH_MAX {
            return Err(TOO_DEEP.into());
        }
        let inner = self.sequence(Some(close), depth + 1)?;
        // No blank before the bracket: it may belong to the name before it.
        level.out.push_str(open);
        level.out.push_str(&inner);
        level.operand(close);
        Ok(())
    }

    fn attribute(&mut self, level: &mut Level) -> Result<(), String> {
        let name = self.tokens.get(self.at).filter(|token| matches!(token.kind, Kind::Name | Kind::Number));
        let Some(name) = name.filter(|_| level.after_operand) else {
            return Err("a dot stands between a value and a name".into());
        };
        self.at += 1;
        level.out.push('.');
        level.out.push_str(name.text);
        level.after_callable = false;
        Ok(())
    }

    fn filter(&mut self, level: &mut Level) -> Result<(), String> {
        let name = self.tokens.get(self.at).filter(|token| token.kind == Kind::Name && level.after_operand);
        let Some(name) = name else {
            return Err("`|` stands between a value and the name of a filter".into());
        };
        known("filter", name.text, engine::filter_names())?;
        self.at += 1;
        level.push("|");
        level.operand(name.text);
        level.after_callable = true;
        Ok(())
    }

    fn count(&mut self) -> Result<(), String> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(format!("more than {OPERATORS_MAX} operators, brackets and filters"));
        }
        Ok(())
    }
}

fn known<'n>(what: &str, name: &str, mut names: impl Iterator<Item = &'n str> + Clone) -> Result<(), String> {
    if names.clone().any(|known| known == name) {
        return Ok(());
    }
    match closest(name, &mut names) {
        Some(near) => Err(format!("there is no {what} `{name}`; did you mean `{near}`?")),
        None => Err(format!("there is no {what} `{name}`")),
    }
}
