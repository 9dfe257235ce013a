//! What a script may use.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use windlass_model::payload::PAYLOAD_BYTES_MAX;
use windlass_model::time::parse_duration;

/// Enough for the common runtimes; a program that wants more says so.
const MEMORY_BYTES_DEFAULT: u64 = 1 << 30;
const FILE_BYTES_DEFAULT: u64 = 1 << 30;
const CPU_DEFAULT: Duration = Duration::from_secs(3600);
/// The usual soft limit of a login.
const OPEN_FILES_MAX: u64 = 1024;

/// As a definition writes them.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsAsked {
    memory: Option<Value>,
    output: Option<Value>,
    file: Option<Value>,
    cpu: Option<String>,
    processes: Option<u64>,
}

/// As the kernel and the reader of standard output enforce them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Private memory of each process.
    pub(super) memory_bytes: u64,
    /// Standard output.
    pub(super) output_bytes: usize,
    /// Each file it writes.
    pub(super) file_bytes: u64,
    /// Of each process.
    pub(super) cpu: Duration,
    /// Of the worker's user, all told.
    pub(super) processes: Option<u64>,
    pub(super) open_files: u64,
}

impl Limits {
    /// # Errors
    /// A sentence for people.
    pub(super) fn new(asked: &LimitsAsked) -> Result<Self, String> {
        let bytes = |value: &Option<Value>, default: u64| value.as_ref().map_or(Ok(default), parse_bytes);
        let output_bytes = bytes(&asked.output, PAYLOAD_BYTES_MAX as u64)?;
        let output_bytes = usize::try_from(output_bytes).unwrap_or(usize::MAX);
        if output_bytes > PAYLOAD_BYTES_MAX {
            return Err(format!("`limits.output` may be {} MiB at most", PAYLOAD_BYTES_MAX >> 20));
        }
        Ok(Self {
            memory_bytes: bytes(&asked.memory, MEMORY_BYTES_DEFAULT)?,
            output_bytes,
            file_bytes: bytes(&asked.file, FILE_BYTES_DEFAULT)?,
            cpu: asked.cpu.as_deref().map_or(Ok(CPU_DEFAULT), parse_duration)?.max(Duration::from_secs(1)),
            processes: asked.processes,
            open_files: OPEN_FILES_MAX,
        })
    }
}

/// Reads `256MiB`, `1GB`, `4096`.
fn parse_bytes(value: &Value) -> Result<u64, String> {
    let problem = || format!("`{value}` is no size; write 64KiB, 256MiB or 1GiB");
    if let Some(bytes) = value.as_u64() {
        return Ok(bytes);
    }
    let text = value.as_str().ok_or_else(problem)?.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| problem())?;
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KB" | "kB" => 1000,
        "MB" => 1000 * 1000,
        "GB" => 1000 * 1000 * 1000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(problem()),
    };
    number.checked_mul(unit).ok_or_else(problem)
}

pub(super) fn schema() -> Value {
    let size = |description: &str| json!({ "description": description, "type": ["string", "integer"] });
    json!({
        "description": "What it may use; a program that wants more fails",
        "type": "object",
        "properties": {
            "memory": size("Private memory of each process; 1GiB when absent"),
            "output": size("Standard output; 8MiB when absent, and at most"),
            "file": size("Each file it writes; 1GiB when absent"),
            "cpu": { "description": "Processor time of each process; 1h when absent", "type": "string" },
            "processes": { "description": "Processes of the worker's user, all told; unlimited when absent",
                           "type": "integer", "minimum": 1 }
        },
        "additionalProperties": false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(asked: Value) -> Result<Limits, String> {
        Limits::new(&serde_json::from_value(asked).unwrap())
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("256MiB", 256 << 20), ("1 GiB", 1 << 30), ("64KiB", 65536), ("2MB", 2_000_000), ("4096", 4096)]
        {
            assert_eq!(limits(json!({ "memory": text })).unwrap().memory_bytes, bytes, "{text}");
        }
        assert_eq!(limits(json!({ "memory": 4096 })).unwrap().memory_bytes, 4096);
        for value in
            [json!("much"), json!("-1MiB"), json!(""), json!("1.5GiB"), json!("99999999999GiB"), json!(-1)]
        {
            assert!(limits(json!({ "memory": value })).is_err(), "{value}");
        }
    }

    #[test]
    fn output_never_exceeds_what_a_step_may_carry() {
        assert_eq!(limits(json!({})).unwrap().output_bytes, PAYLOAD_BYTES_MAX);
        assert!(limits(json!({ "output": "9MiB" })).is_err());
    }
}
