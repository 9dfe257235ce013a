//! What the server said.

use reqwest::header::HeaderMap;
use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null when it is none.
    pub body: Value,
    /// What was asked, for messages.
    pub request: String,
}

impl Answer {
    pub async fn read(request: String, response: reqwest::Response) -> reqwest::Result<Self> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok(Self { status, headers, text, body, request })
    }

    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The stable code of a problem, or "".
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body of a good answer.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.is_ok(), "{self}");
        self.body
    }

    /// # Panics
    /// Unless the answer is a problem of this status and code, told as `application/problem+json`.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.code()), (status, code), "{self}");
        self.assert_well_formed_problem();
        self.body
    }

    /// # Panics
    /// When a refusal is not shaped as every refusal must be, or tells what is none of the client's business.
    #[track_caller]
    pub fn assert_well_formed_problem(&self) {
        assert!(self.header("content-type").starts_with("application/problem+json"), "{self}");
        assert_eq!(self.body["status"], self.status, "{self}");
        for member in ["type", "title", "code", "request_id"] {
            assert!(self.body[member].as_str().is_some_and(|text| !text.is_empty()), "no {member}: {self}");
        }
        for secret in ["panicked", "rusqlite", "sqlite3", "SELECT ", "INSERT ", ".rs:", "/home/", "/root/"] {
            assert!(!self.text.contains(secret), "the answer tells `{secret}`: {self}");
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.text.chars().take(2_000).collect();
        write!(f, "{} answered {}: {text}", self.request, self.status)
    }
}
