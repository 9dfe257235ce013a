//! Prints `docs/cli.md` from the parser, and holds the page against it.

use clap::{Command, CommandFactory};

use crate::Cli;

/// What stands before the reference.
const GUIDE: &str = "\
# The command line

<!-- Printed by a test from cli/src/. Change the commands or cli/src/reference.rs, then run
     UPDATE_DOCS=1 cargo test -p windlass -->

One binary does everything. `windlass run FILE` runs a definition to its end, in its own process, and needs
nothing else. `windlass dev` starts a server; the other commands talk to it. `windlass api` and `windlass worker` are the
same server in several processes: see [operating.md](operating.md).

```sh
windlass run examples/serial-approval.yaml          # asks you at the approval
windlass dev                                        # http://127.0.0.1:7070, in .windlass/windlass.db
windlass workflow push examples/serial-approval.yaml
windlass runs start serial-approval -i title=Hello  # says the ID of the run
windlass runs watch ID                              # in another terminal
windlass runs approve ID --user ada --role editor
windlass doctor                                     # every row against its log
```

## What all commands have in common

- **Results on standard output, everything else on standard error.** `-o table|json|jsonl|yaml|id` says how
  results are printed; `id` prints only ids, for the next command: `windlass runs list --status paused -o id |
  windlass runs resume -`.
- **Which server**: `--server`, or `WINDLASS_SERVER`, or <http://127.0.0.1:7070>.
- **Who you are**: `--user` and `--role`, or `WINDLASS_USER` and `WINDLASS_ROLES`. These are claims: nobody
  proves them until authentication arrives.
- **Exit codes**

  | code | means |
  | --- | --- |
  | 0 | done; a run that was waited for has completed |
  | 1 | the run failed or was canceled; a definition is not valid; anything not listed here |
  | 2 | the command or the request is not valid; `run` met an approval and nobody was there to ask |
  | 3 | there is no such run, workflow, step, file or database |
  | 4 | you may not do that |
  | 5 | the run or the workflow is not in a state that allows it |
  | 124 | what was waited for did not come in time |
  | 130, 143 | left at once, at the second Ctrl-C or SIGTERM |

- **Colors** on a terminal only, and never with `NO_COLOR`. Status words are always printed, never only a color.
- What steps and strangers wrote is shown with its control characters escaped: it cannot steer your terminal.

## `run`: inside this process, or on a server

| `windlass run …` | where it runs | what is left |
| --- | --- | --- |
| `FILE` | in this process, on a temporary database | nothing; `--artifacts DIR` writes files out |
| `FILE --db runs.db` | in this process, on that file | the run, for `windlass dev --db runs.db` and `doctor` |
| `FILE --server URL` | on that server, as an inline definition | the run |
| `NAME[@VERSION]` | on the server | the run |

While a file runs, the same HTTP API as that of `windlass dev` answers on a loopback port of its own: a step that
waits for a signal, and a machine that waits for events, shows the command that sends it.

At an approval you are shown what to approve, and asked. `--yes` approves: on a server in your own name; in a
process of your own in the name of whoever is asked for, as often as `min` says. Without a terminal and without
`--yes`, `run` says how to go on and ends with 2. When a step has failed for good, you may retry it, skip it, or
cancel the run (save when it is one that undoes: the run is ending already); without a terminal, `run` ends with 1.
Ctrl-C cancels the run; pressed again, it leaves at once.

## `doctor`: what it looks for

Without `--repair` it only reads, so servers may be at work on the same database. A run that moves while it is looked at is looked
at again before anything is said about it.

| found | means | `--repair` |
| --- | --- | --- |
| `log_gap`, `log_differs` | the row expects another event than follows the log's last; or events are missing | writes the row anew, unless events are missing |
| `broken_log`, `unreadable_log`, `event_after_end`, `unreadable_row` | a log is not 1, 2, 3, … to its end, or a log or a row cannot be read | |
| `row_differs`, `status_mismatch` | a run's row is not what its log says | writes the row anew, unless it says that the run has ended |
| `snapshot_differs`, `snapshot_ahead` | a stored fold is not the fold of its log | forgets it; the log tells the same |
| `approvals_differ`, `approval_left_open`, `approval_unrequested` | the inbox and the log disagree about a gate | writes the run's gates anew |
| `child_end_lost` | a run waits for a child that has ended, and is not told | makes it due |
| `child_missing`, `orphan_child`, `child_left_open` | a child or a parent is gone, or a child outlived its parent | |
| `dangling_version`, `dangling_latest`, `unreadable_definition`, `damaged_definition` | a definition is gone, not valid for this version, or not what its digest says | |
| `dangling_blob`, `damaged_blob` | a large value is gone, or changed | |
| `orphan_blob` | a large value is nobody's | removes it |
| `orphan_labels`, `orphan_snapshot`, `orphan_approvals`, `orphan_outbox` | rows of a run that does not exist | removes them |
| `orphan_events` | the log of a run that does not exist | |
| `stuck_outbox` | a message was given up, or is due for an hour and nobody tries | makes it due, with all its attempts |
| `kept_place` | a run that is over keeps its place in a concurrency group | lets the next one have it |
| `stuck_circuit` | a circuit breaker lets nobody try for longer than a definition can ask for | lets the next call try |
| `nothing_wakes` | a run waits, but for no time, no person, no signal and no child | |

Where the last column is empty, a person has to say what is true: a log is never changed. A repair happens only if the row is still
as it was read, and is on record in its transaction: as the event `run.repaired` in the log of a run that has not ended, and in
`windlass doctor --history`. A SQLite file is mended while no server has it open; PostgreSQL at any time.

## Reference
";

fn page() -> String {
    let mut page = String::from(GUIDE);
    let mut root = Cli::command().term_width(100);
    root.build();
    for command in root.get_subcommands() {
        describe(command, "windlass", &mut page);
    }
    page
}

fn describe(command: &Command, parent: &str, page: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    let mut command = command.clone().bin_name(&name).term_width(100);
    let help: Vec<String> =
        command.render_long_help().to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    page.push_str(&format!("\n### `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for subcommand in command.get_subcommands() {
        describe(subcommand, &name, page);
    }
}

#[test]
fn the_page_about_the_command_line_is_printed_from_the_parser() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == page, "docs/cli.md is not what the parser says; set UPDATE_DOCS=1 and test again");
}
