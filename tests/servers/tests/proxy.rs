//! The proxy does to a real PostgreSQL's clients what a network does, and what only a test wants.

use std::time::{Duration, Instant};

use servers::proxy::{Cuts, Fate, Manner, Moment, Request};
use servers::{Postgres, Proxy};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};

/// Longer than anything takes that is not held.
const A_MOMENT: Duration = Duration::from_millis(300);

/// A table of this test alone, and two ways to it.
struct Place {
    proxy: Proxy,
    direct: PgConnection,
    table: &'static str,
}

impl Place {
    async fn open(table: &'static str) -> Self {
        let url = Postgres::shared().url();
        let mut direct = PgConnection::connect(url).await.unwrap();
        let sql = format!("drop table if exists {table}; create table {table} (name text)");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut direct).await.unwrap();
        Self { proxy: Proxy::to(url), direct, table }
    }

    async fn connect(&self) -> PgConnection {
        self.try_connect().await.unwrap()
    }

    async fn try_connect(&self) -> sqlx::Result<PgConnection> {
        let options: PgConnectOptions = self.proxy.url().parse().unwrap();
        options.application_name("a test").connect().await
    }

    /// The names that are there for good.
    async fn names(&mut self) -> Vec<String> {
        let sql = format!("select name from {} order by name", self.table);
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut self.direct).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn insert(&self, connection: &mut PgConnection, name: &str) -> sqlx::Result<()> {
        let sql = format!("insert into {} values ($1)", self.table);
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(name).execute(connection).await.map(drop)
    }
}

fn cut_commits(fate: Fate) -> impl FnMut(&Request) -> Fate + Send + 'static {
    move |request| if request.commits() { fate } else { Fate::Pass }
}

#[tokio::test]
async fn what_was_cut_after_its_commit_is_there_and_what_was_cut_before_is_not() {
    let mut place = Place::open("cut_alone").await;
    for (name, fate) in [("before", Fate::CutBefore), ("after", Fate::CutAfter)] {
        let mut connection = place.connect().await;
        place.insert(&mut connection, &format!("{name} first")).await.unwrap();
        place.proxy.judges(cut_commits(fate));
        let error = place.insert(&mut connection, name).await.unwrap_err();
        assert!(matches!(error, sqlx::Error::Io(_)), "{error}");
        assert!(connection.ping().await.is_err());
        place.proxy.judges_no_more();
    }
    assert_eq!(place.names().await, ["after", "after first", "before first"]);
    assert_eq!(place.proxy.cuts(), Cuts { before: 1, after: 1 });
}

#[tokio::test]
async fn of_a_transaction_only_its_end_commits() {
    let mut place = Place::open("cut_transaction").await;
    for (name, fate) in [("before", Fate::CutBefore), ("after", Fate::CutAfter)] {
        place.proxy.judges(cut_commits(fate));
        let mut connection = place.connect().await;
        let mut transaction = connection.begin().await.unwrap();
        place.insert(&mut transaction, &format!("{name} 1")).await.unwrap();
        place.insert(&mut transaction, &format!("{name} 2")).await.unwrap();
        transaction.commit().await.unwrap_err();
    }
    assert_eq!(place.names().await, ["after 1", "after 2"]);
    assert_eq!(place.proxy.cuts(), Cuts { before: 1, after: 1 });
}

#[tokio::test]
async fn reading_and_failing_are_no_commits() {
    let mut place = Place::open("cut_nothing").await;
    place.proxy.judges(cut_commits(Fate::CutAfter));
    let mut connection = place.connect().await;
    sqlx::query("-- update nothing\nselect 1").execute(&mut connection).await.unwrap();
    sqlx::query("insert into cut_nothing select 1 / $1").bind(0).execute(&mut connection).await.unwrap_err();
    assert_eq!(place.proxy.cuts(), Cuts::default(), "the server refused what would have been cut");
    assert!(place.names().await.is_empty());
}

#[tokio::test]
async fn a_trap_holds_one_request_before_or_after_the_server_did_it() {
    let mut place = Place::open("held").await;
    let mut connection = place.connect().await;
    for (moment, name) in [(Moment::Before, "1 before"), (Moment::After, "2 after")] {
        let mut trap = place.proxy.trap(moment, move |request| {
            request.application() == "a test" && request.runs("insert into held") && request.carries(name)
        });
        place.insert(&mut connection, &name[..1]).await.unwrap();
        let sql = "insert into held values ($1)";
        let insert = tokio::spawn(async move {
            let done = sqlx::query(sql).bind(name).execute(&mut connection).await;
            done.map(|_| connection)
        });
        trap.caught().await;
        tokio::time::sleep(A_MOMENT).await;
        assert!(!insert.is_finished());
        assert_eq!(place.names().await.contains(&name.to_owned()), moment == Moment::After);
        trap.release();
        connection = insert.await.unwrap().unwrap();
    }
    let trap = place.proxy.trap(Moment::Before, |request| request.carries("3"));
    drop(trap);
    place.insert(&mut connection, "3").await.unwrap();
    let mut trap = place.proxy.trap(Moment::After, |request| request.carries("4"));
    let (error, ()) = tokio::join!(place.insert(&mut connection, "4"), async {
        trap.caught().await;
        trap.cut();
    });
    error.unwrap_err();
    assert_eq!(place.names().await, ["1", "1 before", "2", "2 after", "3", "4"]);
    assert_eq!(place.proxy.cuts(), Cuts { before: 0, after: 1 });
}

#[tokio::test]
async fn a_hole_swallows_one_way_or_both_and_gives_back_what_it_took() {
    let mut place = Place::open("holes").await;
    for (to_server, to_client) in [(true, false), (false, true), (true, true)] {
        let mut connection = place.connect().await;
        let name = format!("{to_server} {to_client}");
        place.insert(&mut connection, "open").await.unwrap();
        place.proxy.is(Manner::Swallows { to_server, to_client });
        {
            let insert = place.insert(&mut connection, &name);
            tokio::pin!(insert);
            assert!(tokio::time::timeout(A_MOMENT, &mut insert).await.is_err());
            place.proxy.is(Manner::Open);
            insert.await.unwrap();
        }
        // Had it not been there before, it would be there twice now.
        assert_eq!(place.names().await.iter().filter(|it| **it == name).count(), 1);
    }
    place.proxy.is(Manner::Swallows { to_server: false, to_client: true });
    let mut connecting = Box::pin(place.try_connect());
    assert!(tokio::time::timeout(A_MOMENT, &mut connecting).await.is_err());
    place.proxy.is(Manner::Open);
    connecting.await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn a_request_reaches_the_server_although_its_answer_is_swallowed() {
    let mut place = Place::open("half_a_hole").await;
    for (to_server, to_client, arrived) in [(true, false, 0), (false, true, 1)] {
        let mut connection = place.connect().await;
        // Prepared now: later one request is enough.
        place.insert(&mut connection, "open").await.unwrap();
        place.proxy.is(Manner::Swallows { to_server, to_client });
        let lost = tokio::time::timeout(A_MOMENT, place.insert(&mut connection, "lost")).await;
        assert!(lost.is_err());
        place.proxy.reset();
        place.proxy.is(Manner::Open);
        connection.ping().await.unwrap_err();
        // What was swallowed before the reset does not slip through after it.
        assert_eq!(place.names().await.iter().filter(|name| *name == "lost").count(), arrived);
    }
}

#[tokio::test]
async fn connections_are_slow_reset_and_refused() {
    let place = Place::open("rough").await;
    let mut connection = place.connect().await;
    place.proxy.is(Manner::Slow(A_MOMENT));
    let began = Instant::now();
    connection.ping().await.unwrap();
    assert!(began.elapsed() >= A_MOMENT);
    place.proxy.is(Manner::Refuses);
    place.try_connect().await.unwrap_err();
    connection.ping().await.unwrap();
    place.proxy.reset();
    connection.ping().await.unwrap_err();
    place.proxy.is(Manner::Open);
    place.connect().await.ping().await.unwrap();
}
