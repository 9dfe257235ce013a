//! Serial workflows.

use scenarios::{House, Mode, in_every_mode};
use serde_json::json;

in_every_mode!(a_serial_run_reaches_its_end);

async fn a_serial_run_reaches_its_end(mode: Mode) {
    let house = House::open(mode).await;
    let yaml = r#"
        version: 1
        name: greet
        type: steps
        steps:
          - { id: hello, type: transform, output: { text: "Hello, ${{ inputs.who }}" } }
          - { id: rest, type: noop }
          - { id: again, type: transform, output: "${{ nodes.hello.output.text }}!" }
        outputs: { said: "${{ nodes.again.output }}" }
    "#;
    house.push(yaml).await;
    let run = house.start("greet", json!({"who": "Ada"})).await;
    let run = house.wait_for(&run, "completed").await;
    assert_eq!(run["output"], json!({"said": "Hello, Ada!"}));
    house.close().await;
}
