//! What a client asks of the server at once: everything up to a Sync, or one simple query.

use std::collections::HashMap;
use std::sync::Arc;

use super::wire::Frame;

/// Messages that belong together, because the server answers all of them with one ReadyForQuery.
pub struct Request {
    application: Arc<str>,
    /// The SQL of what is executed.
    statements: Vec<Arc<str>>,
    is_in_transaction: bool,
    pub(super) bytes: Vec<u8>,
}

impl Request {
    /// The name by which the client called itself when it connected.
    pub fn application(&self) -> &str {
        &self.application
    }

    /// Whether a statement is executed that holds this text.
    pub fn runs(&self, sql: &str) -> bool {
        self.statements.iter().any(|statement| statement.contains(sql))
    }

    /// Whether this text stands anywhere in it, such as in the parameters.
    pub fn carries(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Whether something is written for good by it: a statement that writes and stands alone, or the end of a
    /// transaction.
    pub fn commits(&self) -> bool {
        self.statements.iter().any(|sql| match self.is_in_transaction {
            true => sql.trim().eq_ignore_ascii_case("commit"),
            false => writes(sql),
        })
    }
}

fn writes(sql: &str) -> bool {
    let code = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    let code = code.collect::<Vec<_>>().join("\n").to_lowercase();
    ["insert into ", "update ", "delete from "].iter().any(|word| code.contains(word))
}

/// Reads one connection's requests.
pub(super) struct Reader {
    application: Arc<str>,
    /// SQL by the name it was prepared under.
    prepared: HashMap<String, Arc<str>>,
    /// What a portal executes.
    portals: HashMap<String, Arc<str>>,
    /// As the server said last.
    pub(super) is_in_transaction: bool,
    bytes: Vec<u8>,
    statements: Vec<Arc<str>>,
}

impl Reader {
    /// `greeting` is the client's first message: length, version, then names and values.
    pub(super) fn greeted_with(greeting: &[u8]) -> Self {
        let texts: Vec<_> = greeting[8..].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let mut pairs = texts.chunks_exact(2);
        let application =
            pairs.find(|pair| pair[0] == "application_name").map(|pair| pair[1].as_ref().into());
        Self {
            application: application.unwrap_or_default(),
            prepared: HashMap::new(),
            portals: HashMap::new(),
            is_in_transaction: false,
            bytes: Vec::new(),
            statements: Vec::new(),
        }
    }

    /// Takes in one message. A request, when it is whole.
    pub(super) fn take(&mut self, frame: &Frame) -> Option<Request> {
        self.bytes.extend_from_slice(&frame.0);
        let mut texts = frame.texts();
        let mut text = || texts.next().unwrap_or_default();
        match frame.tag() {
            b'P' => {
                let name = text();
                self.prepared.insert(name, text().into());
            }
            b'B' => {
                let portal = text();
                if let Some(sql) = self.prepared.get(&text()) {
                    self.portals.insert(portal, sql.clone());
                }
            }
            b'E' => self.statements.extend(self.portals.get(&text()).cloned()),
            b'Q' => self.statements.push(text().into()),
            _ => {}
        }
        matches!(frame.tag(), b'Q' | b'S').then(|| Request {
            application: self.application.clone(),
            statements: std::mem::take(&mut self.statements),
            is_in_transaction: self.is_in_transaction,
            bytes: std::mem::take(&mut self.bytes),
        })
    }

    /// What was taken in and is no whole request.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
