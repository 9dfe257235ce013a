//! A worker that stands still, or is cut off from the database, for three session times, at every point where that
//! could hurt.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use scenarios::house::Plan;
use scenarios::{House, Log, Mode, Process, Sink, eventually, tell};
use serde_json::json;
use servers::Proxy;
use servers::proxy::{Manner, Moment, Request, Trap};

/// As the settings of all stories have it.
const SESSION_TTL: Duration = Duration::from_secs(2);
const SESSION_RENEW: SignedDuration = SignedDuration::from_millis(500);
/// A worker's sessions end one TTL after their last renewal; then comes a sweep of somebody else, and the rest is
/// said to take a second at most.
const TAKEN_OVER_WITHIN: SignedDuration = SignedDuration::from_millis(2_000 + 200 + 1_000);

const NOOP: &str = "{ version: 1, name: noop, type: steps, steps: [ { id: a, type: noop } ] }";

/// Two effects, of which each may be repeated, and a nap before them.
fn definition(nap: &str) -> String {
    let call = |id: &str| {
        format!("{{ id: {id}, type: http, with: {{ method: PUT, url: '${{{{ inputs.sink }}}}/{id}' }} }}")
    };
    format!("{{ version: 1, name: deeds, type: steps, steps: [ {nap} {}, {} ] }}", call("one"), call("two"))
}

/// Everything around one freeze: a worker behind a proxy, and the run that it holds.
struct Scene {
    house: House,
    proxy: Proxy,
    sink: Sink,
    victim: Process,
}

impl Scene {
    async fn set() -> Self {
        let mut house = Plan::of(Mode::Fleet).apis(1).workers(0).open().await;
        let proxy = Proxy::to(house.database_url());
        let victim = house.add_worker(&[("WINDLASS_DATABASE_URL", proxy.url())]).await;
        victim.until_ready().await;
        // Its connections stand, and what it says from now on belongs to the story.
        let run = house.run(NOOP, json!({})).await;
        house.wait_for(&run, "completed").await;
        Self { house, proxy, sink: Sink::open().await, victim }
    }

    async fn start(&self) -> String {
        self.house.run(&definition(""), json!({"sink": self.sink.url()})).await
    }

    /// Holds the n-th write to a run.
    fn trap_write(&self, moment: Moment, nth: usize) -> Trap {
        let mut seen = 0;
        self.proxy.trap(moment, move |request| {
            seen += usize::from(writes_to_a_run(request));
            writes_to_a_run(request) && seen == nth
        })
    }

    fn trap_claim(&self, moment: Moment) -> Trap {
        self.proxy.trap(moment, |request| request.application() == "windlass claims" && request.commits())
    }

    /// Freezes the worker for three session times.
    async fn freeze(&mut self, run: &str) -> (Told, Process) {
        self.fall_silent(run, |scene| scene.victim.freeze()).await
    }

    /// For three session times nothing is heard of the worker. Another one comes and sees the run through.
    async fn fall_silent(&mut self, run: &str, silence: impl FnOnce(&Self)) -> (Told, Process) {
        let held_before = self.house.events(run).await.count("run.engine_taken");
        silence(self);
        let (silent_at, began) = (Timestamp::now(), Instant::now());
        let heir = self.house.add_worker(&[]).await;
        self.house.wait_for(run, "completed").await;
        let log = self.house.events(run).await;
        let taken_over = log.0.iter().rfind(|event| event.is("run.engine_taken")).expect("the heir took it");
        let after = taken_over.at.duration_since(silent_at);
        tokio::time::sleep((SESSION_TTL * 3).saturating_sub(began.elapsed())).await;
        (Told { log, held_before, after, effects: [0, 0] }, heir)
    }

    /// Only when another one has seen the run through goes on what was held, and the frozen one wakes, does no
    /// harm, and works on.
    async fn freeze_and_thaw(mut self, run: &str, trap: Option<Trap>) -> Told {
        let (told, heir) = self.freeze(run).await;
        if let Some(trap) = trap {
            trap.release();
        }
        self.victim.thaw();
        self.work_alone(heir).await;
        self.end(run, told).await
    }

    /// The worker lives and works, and this is how its words to and from the database go for three session times.
    async fn cut_off(mut self, run: &str, manner: Manner) -> Told {
        let (told, heir) = self.fall_silent(run, |scene| scene.proxy.is(manner)).await;
        self.proxy.is(Manner::Open);
        self.work_alone(heir).await;
        self.end(run, told).await
    }

    /// Whoever was silent takes new work: nobody else is there who would.
    async fn work_alone(&self, heir: Process) {
        heir.kill().await;
        let later = self.house.run(NOOP, json!({})).await;
        self.house.wait_for(&later, "completed").await;
        self.victim.until_ready().await;
    }

    async fn end(self, run: &str, mut told: Told) -> Told {
        let now = self.house.events(run).await;
        assert_eq!(now.0.len(), told.log.0.len(), "the silent worker wrote something\n{now}");
        told.effects = ["/one", "/two"].map(|path| self.sink.at(path).len());
        self.house.close_with(&[&self.sink]).await;
        eprintln!("taken over after {:#}", told.after);
        told
    }
}

/// How it went.
struct Told {
    log: Log,
    held_before: usize,
    /// From the first moment of silence to the takeover.
    after: SignedDuration,
    /// At `/one` and `/two`.
    effects: [usize; 2],
}

impl Told {
    /// # Panics
    /// Unless the run was taken over once and in time, exactly this step was lost, and so many effects arrived.
    fn cost(&self, lost: Option<&str>, effects: [usize; 2]) {
        let Self { log, held_before, after, .. } = self;
        assert_eq!(log.count("run.engine_taken"), held_before + 1, "{log}");
        assert!(*after <= TAKEN_OVER_WITHIN, "only after {after:#}\n{log}");
        let losses = log.0.iter().filter(|event| event.is("step.lost"));
        let nodes: Vec<_> = losses.filter_map(|event| event.node.as_deref()).collect();
        assert_eq!(nodes, lost.into_iter().collect::<Vec<_>>(), "{log}");
        assert_eq!(self.effects, effects, "{log}");
    }
}

/// A worker creates nothing: its ticks are writes to runs that it holds.
fn writes_to_a_run(request: &Request) -> bool {
    request.application() == "windlass ticks" && request.commits()
}

/// Freezes the worker when something of its own is in the trap.
async fn with_its_words_in(trap: impl FnOnce(&Scene) -> Trap) -> Told {
    let scene = Scene::set().await;
    let mut trap = trap(&scene);
    let run = scene.start().await;
    trap.caught().await;
    scene.freeze_and_thaw(&run, Some(trap)).await
}

async fn while_its_claim_is_on_its_way() {
    with_its_words_in(|scene| scene.trap_claim(Moment::Before)).await.cost(None, [1, 1]);
}

async fn while_its_claim_is_committed_and_unknown() {
    with_its_words_in(|scene| scene.trap_claim(Moment::After)).await.cost(None, [1, 1]);
}

async fn while_a_start_is_on_its_way() {
    with_its_words_in(|scene| scene.trap_write(Moment::Before, 1)).await.cost(None, [1, 1]);
}

/// The frozen one never begins what it has announced.
async fn while_a_start_is_committed_and_unknown() {
    with_its_words_in(|scene| scene.trap_write(Moment::After, 1)).await.cost(Some("one"), [1, 1]);
}

async fn while_an_outcome_is_on_its_way() {
    with_its_words_in(|scene| scene.trap_write(Moment::Before, 2)).await.cost(Some("one"), [2, 1]);
}

async fn while_an_outcome_is_committed_and_unknown() {
    with_its_words_in(|scene| scene.trap_write(Moment::After, 2)).await.cost(Some("two"), [1, 1]);
}

/// Its effect ends while, or after, another worker repeats it.
async fn while_it_cannot_reach_the_database(effect_takes: Duration) {
    let scene = Scene::set().await;
    scene.sink.is_slow("/one", effect_takes);
    let run = scene.start().await;
    scene.sink.wait_for("/one", 1).await;
    scene.sink.heals("/one");
    let manner = Manner::Swallows { to_server: true, to_client: false };
    scene.cut_off(&run, manner).await.cost(Some("one"), [2, 1]);
}

async fn while_its_effect_ends_at_once() {
    while_it_cannot_reach_the_database(Duration::from_millis(500)).await;
}

async fn while_its_effect_ends_much_later() {
    while_it_cannot_reach_the_database(SESSION_TTL * 3 + Duration::from_secs(1)).await;
}

/// What it says is heard: its session is renewed once more, and no more than once.
async fn while_it_hears_no_answers() {
    let scene = Scene::set().await;
    scene.sink.is_slow("/one", SESSION_TTL * 3 + Duration::from_secs(1));
    let run = scene.start().await;
    scene.sink.wait_for("/one", 1).await;
    scene.sink.heals("/one");
    let manner = Manner::Swallows { to_server: false, to_client: true };
    let mut told = scene.cut_off(&run, manner).await;
    told.after -= SESSION_RENEW;
    told.cost(Some("one"), [2, 1]);
}

/// A zombie: its effect ends long after another worker has repeated it.
async fn while_its_effect_is_not_answered() {
    while_its_effect_takes(SESSION_TTL * 3 + Duration::from_secs(1)).await;
}

async fn while_its_effect_is_being_answered() {
    while_its_effect_takes(Duration::from_millis(500)).await;
}

async fn while_its_effect_takes(time: Duration) {
    let scene = Scene::set().await;
    scene.sink.is_slow("/one", time);
    let run = scene.start().await;
    scene.sink.wait_for("/one", 1).await;
    scene.sink.heals("/one");
    let sink = scene.sink.clone();
    scene.freeze_and_thaw(&run, None).await.cost(Some("one"), [2, 1]);
    let effects = sink.at("/one");
    assert_eq!(effects[0].key, effects[1].key, "whoever takes effects can tell that it is the same");
}

/// What arrives late makes a session live again whose runs have gone.
async fn while_a_renewal_is_on_its_way() {
    while_a_renewal_is_held(Moment::Before).await;
}

async fn while_a_renewal_is_committed_and_unknown() {
    while_a_renewal_is_held(Moment::After).await;
}

async fn while_a_renewal_is_held(moment: Moment) {
    let scene = Scene::set().await;
    scene.sink.is_slow("/one", Duration::from_millis(1_500));
    let run = scene.start().await;
    scene.sink.wait_for("/one", 1).await;
    let mut trap = scene.proxy.trap(moment, |request| request.runs("insert into worker_sessions"));
    trap.caught().await;
    scene.freeze_and_thaw(&run, Some(trap)).await.cost(Some("one"), [2, 1]);
}

/// The timer stands in the memory of the frozen one, too.
async fn while_a_timer_of_a_parked_run_is_due() {
    let scene = Scene::set().await;
    let nap = "{ id: nap, type: wait, for: 1s },";
    let run = scene.house.run(&definition(nap), json!({"sink": scene.sink.url()})).await;
    scene.house.wait_for(&run, "waiting").await;
    let told = scene.freeze_and_thaw(&run, None).await;
    told.cost(None, [1, 1]);
    assert_eq!(told.log.count("timer.fired"), 1);
}

async fn while_it_drains() {
    let mut scene = Scene::set().await;
    scene.sink.is_slow("/one", Duration::from_secs(1));
    let run = scene.start().await;
    scene.sink.wait_for("/one", 1).await;
    scene.victim.ask_to_stop();
    let drains = || async { scene.victim.log().contains("Draining").then_some(()) };
    eventually("the drain to begin", drains).await;
    let (told, _heir) = scene.freeze(&run).await;
    scene.victim.thaw();
    assert_eq!(scene.victim.ended().await, Some(0));
    scene.end(&run, told).await.cost(Some("one"), [2, 1]);
}

macro_rules! silent {
    ($how:ident: $($point:ident),+ $(,)?) => {
        /// A worker of which nothing is heard for three session times is replaced in time, does no harm, and works on.
        mod $how {
            $(
                #[test]
                fn $point() {
                    super::tell(super::$point());
                }
            )+
        }
    };
}

silent!(a_worker_is_frozen:
    while_its_claim_is_on_its_way,
    while_its_claim_is_committed_and_unknown,
    while_a_start_is_on_its_way,
    while_a_start_is_committed_and_unknown,
    while_its_effect_is_not_answered,
    while_its_effect_is_being_answered,
    while_an_outcome_is_on_its_way,
    while_an_outcome_is_committed_and_unknown,
    while_a_renewal_is_on_its_way,
    while_a_renewal_is_committed_and_unknown,
    while_a_timer_of_a_parked_run_is_due,
    while_it_drains,
);

silent!(a_worker_is_cut_off:
    while_its_effect_ends_at_once,
    while_its_effect_ends_much_later,
    while_it_hears_no_answers,
);
