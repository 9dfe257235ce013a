//! The one thread that writes, and how it commits many jobs at once.
//!
//! While a commit is on its way to the disk, further jobs queue up; the next commit takes them all. No
//! timer and no waiting for a batch to fill: one job alone is committed at once, and under load the
//! price of a flush is shared by everyone who waits.
//!
//! A job that is refused has mostly written nothing, because guards come first. So a group is first done
//! without savepoints, which cost a quarter of a tick; only when a job fails after it wrote something is
//! the group undone and done again, each job in a savepoint of its own. Jobs may therefore run twice.
//!
//! A group that writes nothing commits whatever the disk is like. So after a commit that failed, something is written
//! before the next group: what an empty job is told is whether the database can be written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;
use windlass_model::Timestamp;
use windlass_store::{Clock, StoreError, WriteError, point};

use crate::fault::{Fault, store_error};
use crate::migrate;
use crate::open::OpenError;
use crate::queue::Queue;

/// Jobs in one commit. More gains little, and all of them wait for the slowest.
const GROUP_MAX: usize = 128;

pub(crate) struct Writer {
    queue: Arc<Queue<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

/// Something to be written, and somebody to be told.
pub(crate) trait Job: Send {
    /// Does it. False when whatever it wrote must be undone.
    fn run(&mut self, connection: &Connection, now: Timestamp) -> bool;

    /// Tells the outcome: the job's own, or that the commit failed.
    fn answer(self: Box<Self>, commit: Result<(), StoreError>);
}

/// Wraps `work`, and gives the end of the channel where its answer will arrive.
pub(crate) fn job<T, W>(work: W) -> (Box<dyn Job>, oneshot::Receiver<Result<T, WriteError>>)
where
    T: Send + 'static,
    W: Fn(&Connection, Timestamp) -> Result<T, Fault> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Typed { work, result: None, reply }), answer)
}

struct Typed<T, W> {
    work: W,
    result: Option<Result<T, WriteError>>,
    reply: oneshot::Sender<Result<T, WriteError>>,
}

impl<T, W> Job for Typed<T, W>
where
    T: Send,
    W: Fn(&Connection, Timestamp) -> Result<T, Fault> + Send,
{
    fn run(&mut self, connection: &Connection, now: Timestamp) -> bool {
        let result = catch_unwind(AssertUnwindSafe(|| (self.work)(connection, now))).unwrap_or_else(|_| {
            tracing::error!("A write to the database panicked");
            Err(Fault::refused("the write panicked"))
        });
        let is_good = result.is_ok();
        self.result = Some(result.map_err(Fault::into_write));
        is_good
    }

    fn answer(self: Box<Self>, commit: Result<(), StoreError>) {
        let result = match (commit, self.result) {
            // Refused jobs, too: what stood in their way may have been undone with the rest.
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::Refused("the write was never run".into()).into()),
        };
        // A caller that is gone changes nothing.
        let _ = self.reply.send(result);
    }
}

impl Writer {
    pub(crate) fn start(connection: Connection, clock: Arc<Clock>) -> Result<Self, OpenError> {
        let queue = Arc::new(Queue::new());
        let jobs = queue.clone();
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                let mut group = Vec::with_capacity(GROUP_MAX);
                let mut has_failed = false;
                while jobs.take(GROUP_MAX, &mut group) {
                    has_failed = !write_group(&connection, &clock, &mut group, has_failed);
                }
            })
            .map_err(OpenError::Thread)?;
        Ok(Self { queue, thread: Some(thread) })
    }

    pub(crate) fn push(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        self.queue.push(job)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // Its panics were caught job by job.
            let _ = thread.join();
        }
    }
}

/// One commit for the whole group; every job in it stands or falls alone. False when the commit failed.
fn write_group(
    connection: &Connection,
    clock: &Clock,
    group: &mut Vec<Box<dyn Job>>,
    has_failed: bool,
) -> bool {
    let proof = if has_failed { migrate::write_version(connection).map_err(store_error) } else { Ok(()) };
    let commit = proof.and_then(|()| run_group(connection, clock, group));
    if let Err(error) = &commit {
        tracing::error!(error = %error, jobs = group.len(), "A commit failed");
        if !connection.is_autocommit() {
            // When even this fails, the next `begin` says so to the next group.
            let _ = connection.execute_batch("rollback");
        }
    }
    let failure = commit.err().map(|error| match error {
        StoreError::Unavailable(cause) | StoreError::Refused(cause) => cause.to_string(),
        StoreError::Damaged(what) => what,
    });
    for job in group.drain(..) {
        job.answer(match &failure {
            None => Ok(()),
            Some(error) => Err(StoreError::Unavailable(error.clone().into())),
        });
    }
    failure.is_none()
}

fn run_group(connection: &Connection, clock: &Clock, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    execute(connection, "begin immediate")?;
    if run_hopefully(connection, clock, group) {
        return commit(connection);
    }
    if !connection.is_autocommit() {
        execute(connection, "rollback")?;
        if let [_] = group {
            // Alone, its own refusal is the answer.
            return Ok(());
        }
    }
    execute(connection, "begin immediate")?;
    run_carefully(connection, clock, group)?;
    commit(connection)
}

fn commit(connection: &Connection) -> Result<(), StoreError> {
    point("sqlite.before_commit");
    execute(connection, "commit")?;
    point("sqlite.committed");
    Ok(())
}

/// False when a job failed and left something behind.
fn run_hopefully(connection: &Connection, clock: &Clock, group: &mut [Box<dyn Job>]) -> bool {
    group.iter_mut().all(|job| {
        let before = connection.total_changes();
        let is_good = job.run(connection, clock.now());
        !connection.is_autocommit() && (is_good || connection.total_changes() == before)
    })
}

/// Every job in a savepoint of its own.
fn run_carefully(
    connection: &Connection,
    clock: &Clock,
    group: &mut [Box<dyn Job>],
) -> Result<(), StoreError> {
    for job in group {
        execute(connection, "savepoint job")?;
        let is_good = job.run(connection, clock.now());
        if connection.is_autocommit() {
            // On a full disk or a failing one SQLite undoes the whole transaction, not only this job.
            return Err(StoreError::Unavailable("the transaction was undone by a failing job".into()));
        }
        if !is_good {
            execute(connection, "rollback to job")?;
        }
        execute(connection, "release job")?;
    }
    Ok(())
}

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    statement.execute([]).map(drop).map_err(store_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<i64, WriteError>>;

    fn table() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "create table parent (id integer primary key);
                 create table it (n integer primary key, parent integer references parent (id) deferrable initially deferred);
                 pragma foreign_keys = on;",
            )
            .unwrap();
        connection
    }

    fn rows(connection: &Connection) -> Vec<i64> {
        let mut statement = connection.prepare("select n from it order by n").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn insert(n: i64) -> (Box<dyn Job>, Answer) {
        job(move |db, _| {
            db.execute("insert into it (n) values (?1)", [n])?;
            Ok(n)
        })
    }

    /// Writes `n`, then finds a reason not to.
    fn refuse(n: i64) -> (Box<dyn Job>, Answer) {
        job(move |db, _| {
            db.execute("insert into it (n) values (?1)", [n])?;
            Err(WriteError::Moved.into())
        })
    }

    fn run(connection: &Connection, jobs: Vec<(Box<dyn Job>, Answer)>) -> Vec<Result<i64, WriteError>> {
        let (mut group, answers): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        write_group(connection, &Clock::system(), &mut group, false);
        assert!(connection.is_autocommit());
        answers.into_iter().map(|mut answer| answer.try_recv().expect("everyone is answered")).collect()
    }

    #[test]
    fn a_job_that_fails_is_undone_alone() {
        let connection = table();
        let answers = run(&connection, vec![insert(1), refuse(2), insert(3), insert(1), insert(4)]);
        assert!(matches!(answers[0], Ok(1)) && matches!(answers[2], Ok(3)) && matches!(answers[4], Ok(4)));
        assert!(matches!(answers[1], Err(WriteError::Moved)));
        assert!(matches!(answers[3], Err(WriteError::Store(StoreError::Refused(_)))), "{:?}", answers[3]);
        assert_eq!(rows(&connection), [1, 3, 4]);
    }

    #[test]
    fn a_group_is_done_again_only_when_a_failure_left_something_behind() {
        let connection = table();
        let times = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counted = |n: i64| {
            let times = times.clone();
            job(move |db, _| {
                times.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                db.execute("insert into it (n) values (?1)", [n])?;
                Ok(n)
            })
        };
        // The guard of this one finds no row; that one breaks a constraint at its first statement.
        let guarded = job(|db: &Connection, _| {
            db.execute("update it set n = 7 where n = -1", [])?;
            Err(WriteError::Fenced.into())
        });
        let answers = run(&connection, vec![counted(1), guarded, insert(1)]);
        assert!(matches!(answers[1], Err(WriteError::Fenced)) && answers[2].is_err());
        assert_eq!(times.load(std::sync::atomic::Ordering::SeqCst), 1);
        run(&connection, vec![counted(2), refuse(3)]);
        assert_eq!(times.load(std::sync::atomic::Ordering::SeqCst), 3);
        assert_eq!(rows(&connection), [1, 2]);
    }

    #[test]
    fn a_job_that_fails_alone_is_undone() {
        let connection = table();
        assert!(matches!(run(&connection, vec![refuse(1)])[..], [Err(WriteError::Moved)]));
        assert_eq!(rows(&connection), [] as [i64; 0]);
        assert!(matches!(run(&connection, vec![insert(1)])[..], [Ok(1)]));
    }

    #[test]
    fn a_job_that_panics_harms_nobody() {
        let connection = table();
        let panicking = || {
            job(|db: &Connection, _| -> Result<i64, Fault> {
                db.execute("insert into it (n) values (9)", [])?;
                panic!("on purpose")
            })
        };
        let answers = run(&connection, vec![insert(1), panicking(), insert(2)]);
        assert!(matches!(answers[1], Err(WriteError::Store(StoreError::Refused(_)))));
        run(&connection, vec![panicking()]);
        assert_eq!(rows(&connection), [1, 2]);
    }

    #[test]
    fn a_commit_that_fails_fails_everyone() {
        let connection = table();
        // A deferred foreign key is checked at COMMIT.
        let dangling = job(|db: &Connection, _| {
            db.execute("insert into it (n, parent) values (2, 4711)", [])?;
            Ok(2)
        });
        let answers = run(&connection, vec![insert(1), dangling, refuse(3)]);
        for answer in &answers {
            assert!(matches!(answer, Err(WriteError::Store(StoreError::Unavailable(_)))), "{answer:?}");
        }
        assert_eq!(rows(&connection), [] as [i64; 0]);
        assert!(matches!(run(&connection, vec![insert(1)])[..], [Ok(1)]));
    }

    #[test]
    fn a_transaction_that_the_database_undid_fails_everyone() {
        let connection = table();
        let undone = job(|db: &Connection, _| -> Result<i64, Fault> {
            // As SQLite does by itself on a full disk.
            db.execute_batch("rollback")?;
            Err(Fault::refused("the disk is full"))
        });
        let answers = run(&connection, vec![insert(1), undone, insert(2)]);
        for answer in &answers {
            assert!(matches!(answer, Err(WriteError::Store(StoreError::Unavailable(_)))), "{answer:?}");
        }
        assert_eq!(rows(&connection), [] as [i64; 0]);
    }

    #[test]
    fn a_full_disk_is_no_end() {
        let connection = table();
        connection.execute_batch("create table large (content blob)").unwrap();
        let pages: i64 = connection.query_row("pragma page_count", [], |row| row.get(0)).unwrap();
        connection.pragma_update(None, "max_page_count", pages + 10).unwrap();
        let too_much = || {
            job(|db: &Connection, _| -> Result<i64, Fault> {
                db.execute("insert into it (n) values (9)", [])?;
                db.execute("insert into large values (zeroblob(1000000))", [])?;
                Ok(9)
            })
        };
        let unavailable = |answer: &Result<i64, WriteError>| {
            matches!(answer, Err(WriteError::Store(StoreError::Unavailable(_))))
        };
        assert!(unavailable(&run(&connection, vec![too_much()])[0]));
        let answers = run(&connection, vec![insert(1), too_much(), insert(2)]);
        assert!(unavailable(&answers[1]), "{:?}", answers[1]);
        // Whoever was told that it is written finds it written, and nobody finds half of anything.
        let expected: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok().copied()).collect();
        assert_eq!(rows(&connection), expected);
        connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
        assert!(matches!(run(&connection, vec![too_much()])[..], [Ok(9)]));
    }

    #[test]
    fn a_caller_that_is_gone_changes_nothing() {
        let connection = table();
        let (gone, answer) = insert(1);
        drop(answer);
        let (other, mut other_answer) = insert(2);
        write_group(&connection, &Clock::system(), &mut vec![gone, other], false);
        assert!(matches!(other_answer.try_recv(), Ok(Ok(2))));
        assert_eq!(rows(&connection), [1, 2]);
    }

    #[test]
    fn what_is_queued_is_written_before_the_writer_stops() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("create table it (n integer primary key)").unwrap();
        let writer = Writer::start(connection, Arc::new(Clock::system())).unwrap();
        for n in 0..1_000 {
            writer.push(insert(n).0).unwrap();
        }
        drop(writer);
        assert_eq!(rows(&Connection::open(&path).unwrap()).len(), 1_000);
    }
}
