//! Finds expressions in text, and the words of an expression.

use super::EXPRESSION_BYTES_MAX;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Name,
    Number,
    Text,
    Symbol,
}

/// One word of an expression, as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// Whether nothing separates it from the token before.
    pub is_glued: bool,
}

impl Token<'_> {
    pub(super) fn is(&self, text: &str) -> bool {
        self.kind == Kind::Symbol && self.text == text
    }

    pub(super) fn is_word(&self, text: &str) -> bool {
        self.kind == Kind::Name && self.text == text
    }
}

/// Text is a sequence of literal parts and expressions.
#[derive(Debug, PartialEq)]
pub(crate) enum Part<'a> {
    Literal(&'a str),
    Expression { text: &'a str, tokens: Vec<Token<'a>> },
}

/// The tokens of a text that is an expression as a whole.
pub(crate) fn whole(text: &str) -> Result<Vec<Token<'_>>, String> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(format!("an expression has at most {EXPRESSION_BYTES_MAX} bytes"));
    }
    let mut lexer = Lexer { text, offset: 0, braces: 0 };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

/// Takes text apart at `${{ … }}`.
pub(crate) fn split(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${{") {
        if start > 0 {
            parts.push(Part::Literal(&rest[..start]));
        }
        let inside = &rest[start + 3..];
        let mut lexer = Lexer { text: inside, offset: 0, braces: 0 };
        let mut tokens = Vec::new();
        let end = loop {
            if lexer.is_at_end_mark() {
                break lexer.offset;
            }
            match lexer.next()? {
                Some(_) if lexer.offset > EXPRESSION_BYTES_MAX => {
                    return Err(format!("an expression has at most {EXPRESSION_BYTES_MAX} bytes"));
                }
                Some(token) => tokens.push(token),
                None => return Err("this `${{` has no `}}`".into()),
            }
        };
        parts.push(Part::Expression { text: &inside[..end], tokens });
        rest = &inside[end + 2..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    Ok(parts)
}

struct Lexer<'a> {
    text: &'a str,
    offset: usize,
    braces: usize,
}

/// Longer ones first.
const SYMBOLS: &[&str] = &[
    "//", "**", "==", "!=", ">=", "<=", ".", "+", "-", "*", "/", "%", "<", ">", "(", ")", "[", "]", "{", "}",
    ":", "~", "=", "|", ",",
];

impl<'a> Lexer<'a> {
    fn is_at_end_mark(&mut self) -> bool {
        self.skip_space();
        self.braces == 0 && self.rest().starts_with("}}")
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, String> {
        let is_glued = !self.skip_space();
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let (kind, length) = if first.is_ascii_alphabetic() || first == '_' {
            (Kind::Name, run(rest, |byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        } else if first.is_ascii_digit() {
            (Kind::Number, self.number_length())
        } else if first == '"' || first == '\'' {
            (Kind::Text, text_length(rest)?)
        } else if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            match *symbol {
                "{" => self.braces += 1,
                "}" => self.braces = self.braces.saturating_sub(1),
                _ => {}
            }
            (Kind::Symbol, symbol.len())
        } else {
            return Err(format!("the character {first:?} has no meaning in an expression"));
        };
        self.offset += length;
        Ok(Some(Token { kind, text: &rest[..length], is_glued }))
    }

    /// As minijinja reads numbers: `1`, `1_000`, `0xff`, `1.5`, `1e-3`; after a dot only digits.
    fn number_length(&self) -> usize {
        let rest = self.rest();
        if self.text[..self.offset].ends_with('.') {
            return run(rest, |byte| byte.is_ascii_digit());
        }
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut length = run(rest, word);
        let bytes = rest.as_bytes();
        if bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit) {
            length += 1 + run(&rest[length + 1..], word);
        }
        let is_decimal = !rest.starts_with("0x") && !rest.starts_with("0X");
        if is_decimal
            && rest[..length].ends_with(['e', 'E'])
            && matches!(bytes.get(length), Some(b'+' | b'-'))
        {
            length += 1 + run(&rest[length + 1..], word);
        }
        length
    }

    fn skip_space(&mut self) -> bool {
        let rest = self.rest();
        let skipped = rest.len() - rest.trim_start().len();
        self.offset += skipped;
        skipped > 0
    }

    fn rest(&self) -> &'a str {
        &self.text[self.offset..]
    }
}

fn run(text: &str, belongs: impl Fn(u8) -> bool) -> usize {
    text.bytes().position(|byte| !belongs(byte)).unwrap_or(text.len())
}

fn text_length(rest: &str) -> Result<usize, String> {
    let quote = rest.as_bytes()[0];
    let mut is_escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        if byte == quote && !is_escaped {
            return Ok(at + 1);
        }
        is_escaped = byte == b'\\' && !is_escaped;
    }
    Err("a text in this expression has no closing quote".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<String> {
        split(text)
            .unwrap()
            .iter()
            .map(|part| match part {
                Part::Literal(text) => format!("literal {text}"),
                Part::Expression { text, .. } => format!("expression {}", text.trim()),
            })
            .collect()
    }

    #[test]
    fn braces_and_quotes_inside_an_expression_do_not_end_it() {
        assert_eq!(
            parts("a ${{ {'b': {'c': 1}} }} d"),
            ["literal a ", "expression {'b': {'c': 1}}", "literal  d"]
        );
        assert_eq!(parts("${{ '}}' }}${{ 1 }}"), ["expression '}}'", "expression 1"]);
        assert_eq!(parts("${{ '${{' }}"), ["expression '${{'"]);
        assert_eq!(parts("{{ no }} $ {{"), ["literal {{ no }} $ {{"]);
        assert_eq!(split("${{ 1 }").unwrap_err(), "this `${{` has no `}}`");
    }

    #[test]
    fn numbers_are_read_as_minijinja_reads_them() {
        let texts = |text| whole(text).unwrap().iter().map(|token| token.text.to_owned()).collect::<Vec<_>>();
        assert_eq!(texts("1.5e-3+a.0.1"), ["1.5e-3", "+", "a", ".", "0", ".", "1"]);
        assert_eq!(texts("0xfe+1_000-2"), ["0xfe", "+", "1_000", "-", "2"]);
    }
}
