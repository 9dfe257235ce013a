//! The same machines and the same events through XState, somebody else's work: the same configurations,
//! contexts and ends, and the same actions in the same order.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use windlass_model::machine::Occurrence;
use windlass_model::{Plan, StepError};

use crate::drive::{World, emitted};
use crate::generate::{self, Chance, ERRORS, EVENTS, RAISED};

const MACHINES: usize = 400;
const SCRIPTS_PER_MACHINE: u64 = 2;
const SCRIPT_LINES: usize = 14;
/// So many must have been compared from beginning to end.
const MACHINES_MIN: usize = 300;
/// Repeats one machine: `MACHINE_SEED=7 cargo test -p windlass-model --test machines xstate`.
const SEED_VARIABLE: &str = "MACHINE_SEED";

/// One machine, what happens to it, and what it did here.
struct Job {
    seed: u64,
    definition: Value,
    script: Vec<Value>,
    answers: Vec<Value>,
}

#[test]
fn random_machines_do_the_same_here_and_in_xstate() {
    let folder = match install() {
        Ok(folder) => folder,
        Err(reason) if std::env::var_os("CI").is_none() => {
            tell(&format!("SKIPPED: nothing was compared with XState, because {reason}"));
            return;
        }
        Err(reason) => panic!("{reason}; in CI this comparison is not skipped"),
    };
    let seeds = match std::env::var(SEED_VARIABLE).map(|seed| seed.parse().expect("a seed is a number")) {
        Ok(seed) => seed..=seed,
        Err(_) => 0..=u64::MAX,
    };
    let jobs: Vec<Job> = seeds.filter_map(jobs).take(MACHINES).flatten().collect();
    let theirs = ask(&folder, &jobs);
    let mut counts = Counts::default();
    for (job, theirs) in jobs.iter().zip(&theirs) {
        counts.compare(job, theirs);
    }
    tell(&counts.sentence());
    let is_whole_run = std::env::var_os(SEED_VARIABLE).is_none();
    assert!(!is_whole_run || counts.machines() >= MACHINES_MIN, "{}", counts.sentence());
}

fn tell(sentence: &str) {
    writeln!(std::io::stderr(), "{sentence}").expect("somebody may read it");
}

#[derive(Default)]
struct Counts {
    whole: std::collections::BTreeSet<u64>,
    lines: usize,
    unclear: usize,
    endless: usize,
}

impl Counts {
    fn compare(&mut self, job: &Job, theirs: &Value) {
        let Some(answers) = theirs["answers"].as_array() else {
            panic!("XState refuses the machine of seed {}: {theirs}\n{}", job.seed, job.definition);
        };
        for (at, ours) in job.answers.iter().enumerate() {
            let theirs = &answers[at];
            if theirs["is_order_unclear"] == true {
                // XState goes by the order of entry here, Windlass by the order of the document.
                self.unclear += 1;
                return;
            }
            if theirs["error"].is_string() || ours["error"].is_string() {
                assert!(
                    theirs["error"].is_string() && ours["error"].is_string(),
                    "{}",
                    told(job, at, theirs)
                );
                self.endless += 1;
                return;
            }
            for key in ["configuration", "actions", "context", "is_done", "output", "invoked"] {
                let found = match key {
                    "is_done" => &json!(theirs["status"] == "done"),
                    _ => &theirs[key],
                };
                assert_eq!(
                    &ours[key],
                    found,
                    "{key} differs: ours left, XState's right. {}",
                    told(job, at, theirs)
                );
            }
            self.lines += 1;
        }
        self.whole.insert(job.seed);
    }

    fn machines(&self) -> usize {
        self.whole.len()
    }

    fn sentence(&self) -> String {
        format!(
            "{} machines and {} events were the same; {} sequences never came to rest on either side, {} were \
             cut where XState goes by the order of entry",
            self.machines(),
            self.lines,
            self.endless,
            self.unclear
        )
    }
}

fn told(job: &Job, at: usize, theirs: &Value) -> String {
    let seed = job.seed;
    let line = at.checked_sub(1).map_or("its start".to_owned(), |line| job.script[line].to_string());
    format!(
        "Seed {seed} (repeat with {SEED_VARIABLE}={seed}), after {line}, line {at} of {}\n     ours: {}\nXState's: \
         {theirs}\n{}",
        json!(job.script),
        job.answers[at],
        job.definition
    )
}

/// None when Windlass sees that the machine would never come to rest.
fn jobs(seed: u64) -> Option<Vec<Job>> {
    let (definition, plan) = generate::compiled(seed)?;
    let job = |number| {
        let mut chance = Chance::new(seed * SCRIPTS_PER_MACHINE + number);
        let (script, answers) = run(&plan, &mut chance);
        Job { seed, definition: definition.clone(), script, answers }
    };
    Some((0..SCRIPTS_PER_MACHINE).map(job).collect())
}

/// Lets things happen to the machine, and writes down what, and what came of it.
fn run(plan: &Plan, chance: &mut Chance) -> (Vec<Value>, Vec<Value>) {
    let (mut script, mut answers) = (Vec::new(), Vec::new());
    let (mut world, reaction) = match World::start(plan) {
        Ok(started) => started,
        Err(error) => return (script, vec![failed(&error)]),
    };
    answers.push(answer(&world, emitted(&reaction)));
    while script.len() < SCRIPT_LINES && !world.state.is_done {
        let Some((line, reaction)) = something(&mut world, chance) else { break };
        script.push(line);
        match reaction {
            Ok(emitted) => answers.push(answer(&world, emitted)),
            Err(error) => {
                answers.push(failed(&error));
                break;
            }
        }
    }
    (script, answers)
}

/// None when two timers are due at the same instant: who goes first then is nobody's promise.
fn something(world: &mut World<'_>, chance: &mut Chance) -> Option<(Value, Result<Vec<Value>, StepError>)> {
    let states = world.machine().states.len() - 1;
    let due: Vec<u64> = world.timers.iter().take(2).map(|(due, _, _)| *due).collect();
    let running: Vec<_> = world.invoked.iter().copied().collect();
    match chance.below(10) {
        0..=1 if due.len() == 2 && due[0] == due[1] => None,
        0..=1 if !due.is_empty() => {
            let left = due[0] - world.now_s;
            if chance.percent(25) && left > 1 {
                let passed = 1 + chance.below(left as usize - 1) as u64;
                world.now_s += passed;
                return Some((json!({ "advance_s": passed }), Ok(Vec::new())));
            }
            Some((json!({ "advance_s": left }), world.fire_next().map(|it| emitted(&it))))
        }
        2..=3 if !running.is_empty() => {
            let node = *chance.pick(&running);
            let id = world.plan.node(node).id.clone();
            if chance.percent(50) {
                let output = json!({ "r": chance.below(4) });
                let line = json!({ "done": id, "output": output });
                let reaction = world.happens(&Occurrence::InvocationDone { node, output });
                return Some((line, reaction.map(|it| emitted(&it))));
            }
            let kind = *chance.pick(ERRORS);
            let error = StepError::new(kind, "it broke");
            let reaction = world.happens(&Occurrence::InvocationFailed { node, error });
            Some((json!({ "failed": id, "kind": kind }), reaction.map(|it| emitted(&it))))
        }
        4 => send(world, chance, &format!("G{}", states)),
        5..=6 => {
            let name = format!("G{}", chance.below(states));
            send(world, chance, &name)
        }
        7 => {
            let name = *chance.pick(RAISED);
            send(world, chance, name)
        }
        _ => {
            let name = *chance.pick(EVENTS);
            send(world, chance, name)
        }
    }
}

fn send(
    world: &mut World<'_>,
    chance: &mut Chance,
    name: &str,
) -> Option<(Value, Result<Vec<Value>, StepError>)> {
    let payload = json!({ "n": chance.below(4) });
    let reaction = world.send(name, payload.clone());
    Some((json!({ "send": name, "payload": payload }), reaction.map(|it| emitted(&it))))
}

fn answer(world: &World<'_>, actions: Vec<Value>) -> Value {
    let mut invoked: Vec<&str> =
        world.invoked.iter().map(|node| world.plan.node(*node).id.as_str()).collect();
    invoked.sort_unstable();
    json!({
        "configuration": world.configuration(),
        "actions": actions,
        "context": *world.state.context,
        "is_done": world.state.is_done,
        "output": world.state.output.value(),
        "invoked": invoked,
        "error": null,
    })
}

fn failed(error: &StepError) -> Value {
    assert!(error.kind.starts_with("limit."), "{error:?}");
    json!({ "error": error.kind })
}

/// Hands all jobs to one process, and reads its answers.
fn ask(folder: &Path, jobs: &[Job]) -> Vec<Value> {
    let mut child = Command::new("node")
        .arg(folder.join("driver.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let answers = std::thread::scope(|scope| {
        scope.spawn(move || {
            for job in jobs {
                let line = json!({ "definition": job.definition, "script": job.script });
                writeln!(stdin, "{line}").expect("the driver reads all jobs");
            }
        });
        let lines = BufReader::new(stdout).lines();
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect::<Vec<Value>>()
    });
    assert!(child.wait().expect("node ends").success());
    assert_eq!(answers.len(), jobs.len());
    answers
}

/// Puts XState below target/, once. The error says why that is not possible.
fn install() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines/xstate");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("xstate");
    for program in ["node", "npm"] {
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(format!("`{program}` is not installed"));
        }
    }
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let copy = |name: &str| std::fs::copy(source.join(name), folder.join(name)).map(|_| ());
    copy("driver.mjs").map_err(|error| error.to_string())?;
    let read = |name: &Path| std::fs::read_to_string(name).unwrap_or_default();
    let lock = "package-lock.json";
    let is_there = folder.join("node_modules/xstate/package.json").exists();
    if is_there && read(&folder.join(lock)) == read(&source.join(lock)) {
        return Ok(folder);
    }
    for name in ["package.json", lock] {
        copy(name).map_err(|error| error.to_string())?;
    }
    let status = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(folder),
        _ => panic!("npm could not install XState into {}", folder.display()),
    }
}
