//! Where writes of one kind gather while the ones before them are being committed.
//!
//! One task takes from the queue and hands groups to a few connections. While the first of them is busy, what
//! arrives waits and becomes the next group: no timer, and no waiting for a group to fill. Only a backlog of a
//! whole group brings in the next connection.
//!
//! One task decides, so that nobody can be woken who does not want the work.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use sqlx::postgres::PgConnection;
use tokio::sync::{mpsc, oneshot};
use windlass_store::{StoreError, WriteError, point};

use crate::fault::{Fault, InDoubt};
use crate::line::{self, ANSWER_MAX, Line, Purpose, Server, chance};

/// Jobs in one group. More gains some throughput, and all of them wait for the slowest.
const GROUP_MAX: usize = 128;
/// Jobs that may wait. Whoever comes later is told that the database is away, instead of filling memory.
const JOBS_WAITING_MAX: usize = 65_536;
/// Two transactions that stood in each other's way are tried again this often, after a pause.
const ATTEMPTS_MAX: u32 = 5;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(10);

/// An answer to each of a group, in its order.
pub(crate) type Answers<T> = Vec<Result<T, WriteError>>;

/// One kind of write, done in groups.
pub(crate) trait Kind: Send + 'static {
    type Item: Send + Sync + 'static;
    type Answer: Send + 'static;

    /// Does all of them in one transaction, with an answer for each.
    ///
    /// # Errors
    /// When the transaction failed as a whole: nothing was written, unless the connection was lost.
    fn commit<'c>(
        connection: &'c mut PgConnection,
        items: &'c [Self::Item],
    ) -> BoxFuture<'c, Result<Answers<Self::Answer>, Fault>>;
}

type Reply<K> = oneshot::Sender<Result<<K as Kind>::Answer, WriteError>>;

struct Job<K: Kind> {
    item: K::Item,
    reply: Reply<K>,
}

/// The way in.
pub(crate) struct Lane<K: Kind> {
    queue: mpsc::Sender<Job<K>>,
}

impl<K: Kind> Lane<K> {
    /// Its task ends when the lane was dropped and all that waited is done.
    pub(crate) fn start(server: &Server, purpose: Purpose, lines: usize) -> Self {
        let (queue, jobs) = mpsc::channel(JOBS_WAITING_MAX);
        let lines = (0..lines).map(|_| Line::new(server, purpose)).collect();
        tokio::spawn(dispatch::<K>(jobs, lines));
        Self { queue }
    }

    /// Has it done, and waits for the answer. It is done even when nobody waits any more.
    pub(crate) async fn run(&self, item: K::Item) -> Result<K::Answer, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Job { item, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                unavailable(format!("{JOBS_WAITING_MAX} jobs wait already"))
            }
            mpsc::error::TrySendError::Closed(_) => unavailable("the database is being closed"),
        })?;
        answer.await.unwrap_or_else(|_| Err(unavailable("the group was given up")))
    }
}

fn unavailable(problem: impl Into<String>) -> WriteError {
    StoreError::Unavailable(problem.into().into()).into()
}

async fn dispatch<K: Kind>(mut queue: mpsc::Receiver<Job<K>>, mut idle: Vec<Line>) {
    let mut busy = FuturesUnordered::new();
    let mut waiting = VecDeque::new();
    let mut arriving = Vec::with_capacity(GROUP_MAX);
    let mut is_open = true;
    while is_open || !waiting.is_empty() || !busy.is_empty() {
        while !waiting.is_empty() && (busy.is_empty() || waiting.len() >= GROUP_MAX) {
            let Some(line) = idle.pop() else { break };
            let count = waiting.len().min(GROUP_MAX);
            busy.push(serve::<K>(line, waiting.drain(..count).collect()));
        }
        tokio::select! {
            Some((line, away)) = busy.next(), if !busy.is_empty() => {
                idle.push(line);
                if let Some(problem) = away {
                    // Each group would wait for a connection of its own; so nobody waits longer than one attempt.
                    while let Ok(job) = queue.try_recv() {
                        waiting.push_back(job);
                    }
                    answer_all(waiting.drain(..), &problem);
                }
            }
            count = queue.recv_many(&mut arriving, GROUP_MAX), if is_open && waiting.len() < GROUP_MAX => {
                is_open = count > 0;
                waiting.extend(arriving.drain(..));
            }
        }
    }
}

/// Commits a group. The second value says that there is no connection.
async fn serve<K: Kind>(mut line: Line, jobs: Vec<Job<K>>) -> (Line, Option<String>) {
    let served = AssertUnwindSafe(commit_all::<K>(&mut line, jobs)).catch_unwind().await;
    let away = served.unwrap_or_else(|_| {
        // Whoever waits sees that its group was given up. Where the connection stands, nobody knows.
        tracing::error!("A group of writes panicked");
        line.hang_up();
        None
    });
    (line, away)
}

/// Commits a group; when the server refuses it, its halves, until whoever is to blame stands alone.
async fn commit_all<K: Kind>(line: &mut Line, jobs: Vec<Job<K>>) -> Option<String> {
    let mut groups = vec![split(jobs)];
    while let Some((mut items, mut replies)) = groups.pop() {
        let done = match line.connection().await {
            Ok(connection) => line::within(ANSWER_MAX, commit_patiently::<K>(connection, &items)).await,
            Err(error) => {
                let problem = error.to_string();
                tell_all(replies, &problem);
                groups.into_iter().for_each(|(_, replies)| tell_all(replies, &problem));
                return Some(problem);
            }
        };
        match done {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // A caller that is gone changes nothing.
                    let _ = reply.send(answer);
                }
            }
            Err(fault) if fault.is_said_by_server() && !fault.is_passing() && items.len() > 1 => {
                let half = items.len() / 2;
                let later = (items.split_off(half), replies.split_off(half));
                groups.push(later);
                groups.push((items, replies));
            }
            Err(fault) => {
                line.clear_up(&fault).await;
                tell_fault(replies, fault);
            }
        }
    }
    None
}

async fn commit_patiently<K: Kind>(
    connection: &mut PgConnection,
    items: &[K::Item],
) -> Result<Answers<K::Answer>, Fault> {
    let mut attempt = 1;
    loop {
        point("postgres.before_group");
        let done = K::commit(connection, items).await;
        point("postgres.group_done");
        match done {
            Err(fault) if fault.is_passing() && attempt < ATTEMPTS_MAX => {
                tokio::time::sleep(ATTEMPT_PAUSE.mul_f64(f64::from(attempt) * (1.0 + chance()))).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

fn split<K: Kind>(jobs: Vec<Job<K>>) -> (Vec<K::Item>, Vec<Reply<K>>) {
    jobs.into_iter().map(|job| (job.item, job.reply)).unzip()
}

fn tell_fault<T>(replies: Vec<oneshot::Sender<Result<T, WriteError>>>, fault: Fault) {
    let is_in_doubt = fault.is_end_of_connection();
    let error = fault.into_store();
    let problem = error.to_string();
    for reply in replies {
        let error = match &error {
            _ if is_in_doubt => StoreError::Unavailable(InDoubt(problem.clone()).into()),
            StoreError::Unavailable(_) => StoreError::Unavailable(problem.clone().into()),
            StoreError::Damaged(problem) => StoreError::Damaged(problem.clone()),
            StoreError::Refused(_) => StoreError::Refused(problem.clone().into()),
        };
        let _ = reply.send(Err(error.into()));
    }
}

fn tell_all<T>(replies: Vec<oneshot::Sender<Result<T, WriteError>>>, problem: &str) {
    for reply in replies {
        let _ = reply.send(Err(unavailable(problem)));
    }
}

fn answer_all<K: Kind>(jobs: impl Iterator<Item = Job<K>>, problem: &str) {
    tell_all(jobs.map(|job| job.reply).collect(), problem);
}
