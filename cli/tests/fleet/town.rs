//! A PostgreSQL, a Redis, and the built program in as many processes as a test likes.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use servers::{Postgres, Redis};

/// Nothing takes longer, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Leases as the tests want them: short, so that a death is noticed soon.
const SETTINGS: &[(&str, &str)] = &[
    ("WINDLASS_SESSION_TTL", "2s"),
    ("WINDLASS_SESSION_RENEW", "500ms"),
    ("WINDLASS_SWEEP_INTERVAL", "500ms"),
    ("WINDLASS_LISTEN", "127.0.0.1:0"),
    ("WINDLASS_HEALTH_LISTEN", "127.0.0.1:0"),
];

pub struct Town {
    pub postgres: Postgres,
    pub redis: Redis,
    folder: tempfile::TempDir,
    http: Client,
}

impl Town {
    pub fn build() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            postgres: Postgres::start(),
            redis: Redis::start(),
            folder: tempfile::tempdir().unwrap(),
            http: Client::builder().no_proxy().timeout(PATIENCE).build().unwrap(),
        }
    }

    /// The program, with an environment that holds nothing but the addresses of this town.
    pub fn windlass(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command.args(words).env_clear().current_dir(self.folder.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(SETTINGS.iter().copied());
        command.env("WINDLASS_DATABASE_URL", self.postgres.url()).env("WINDLASS_REDIS_URL", self.redis.url());
        command
    }

    /// Says what it said, and how it ended.
    pub fn ask(&self, words: &[&str]) -> (Option<i32>, String) {
        let output = self.windlass(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    }

    pub fn client(&self) -> Client {
        self.http.clone()
    }

    /// Starts `windlass api` or `windlass worker`.
    pub async fn start(&self, role: &str, name: &str) -> House {
        self.start_with(&[role], name).await
    }

    /// Starts an API on a port that another one had.
    pub async fn start_at(&self, port: &str, name: &str) -> House {
        self.start_with(&["api", "--listen", &format!("127.0.0.1:{port}")], name).await
    }

    async fn start_with(&self, words: &[&str], name: &str) -> House {
        let log = self.folder.path().join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let child =
            self.windlass(words).stdout(file.try_clone().unwrap()).stderr(file).stdin(Stdio::null()).spawn();
        let mut house = House { child: child.unwrap(), log, url: String::new() };
        let began = Instant::now();
        while house.url.is_empty() {
            assert!(began.elapsed() < PATIENCE, "{name} does not come up:\n{}", house.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
            house.url = house
                .said()
                .split_whitespace()
                .find(|word| word.starts_with("http://"))
                .unwrap_or_default()
                .into();
        }
        house
    }

    pub fn request(&self, house: &House, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", house.url)).header("X-Windlass-User", "ada")
    }

    pub async fn get(&self, house: &House, path: &str) -> Value {
        let answer = self.request(house, Method::GET, path).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// Starts a run of these steps.
    pub async fn create(&self, api: &House, steps: Value) -> String {
        self.create_and_wait(api, steps, 0).await["id"].as_str().unwrap().to_owned()
    }

    /// Starts a run, and answers when it has ended, or after so many seconds.
    pub async fn create_and_wait(&self, api: &House, steps: Value, seconds: u32) -> Value {
        let body = json!({"spec": {"version": 1, "name": "it", "type": "steps", "steps": steps}});
        let request = self.request(api, Method::POST, "/v1/workflow-runs").json(&body);
        let answer = request.header("Prefer", format!("wait={seconds}")).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    pub async fn until(&self, api: &House, run: &str, status: &str) {
        let began = Instant::now();
        loop {
            let seen = self.get(api, &format!("/v1/workflow-runs/{run}")).await["status"].clone();
            if seen == status {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "the run is {seen}, not {status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn events(&self, api: &House, run: &str) -> Vec<Value> {
        let page = self.get(api, &format!("/v1/workflow-runs/{run}/events?limit=200")).await;
        page["items"].as_array().unwrap().clone()
    }

    /// Whether the process says that it is ready, as soon as it says what is expected.
    pub async fn until_ready(&self, house: &House, ready: bool) {
        let began = Instant::now();
        loop {
            let answer = self.request(house, Method::GET, "/readyz").send().await.unwrap();
            if answer.status().is_success() == ready {
                return;
            }
            let said = answer.text().await.unwrap();
            assert!(began.elapsed() < PATIENCE, "readiness is not {ready}: {said}\n{}", house.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A process. It is killed when dropped.
pub struct House {
    child: Child,
    log: PathBuf,
    url: String,
}

impl House {
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops its clock, as a paused machine would.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Asks it to end, and gives its exit code.
    pub async fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "it does not end:\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}", self.log.display(), self.said());
        }
    }
}
