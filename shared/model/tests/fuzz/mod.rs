//! Nonsense that is almost sense: inputs that were kept, and what becomes of them when a few bytes go wrong.
//!
//! Part of the test binaries that use it. `FUZZ_INPUTS=1000000 FUZZ_SEED=7` plays longer and elsewhere; an input that breaks a rule is
//! written into the corpus, and played first from then on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Enough to find again what the corpus is about, and short in a debug build.
const INPUTS: usize = 2_000;
const INPUT_BYTES_MAX: usize = 20_000;

pub(crate) struct Fuzz {
    folder: PathBuf,
    inputs: Vec<Vec<u8>>,
    words: &'static [&'static str],
    chance: u64,
}

impl Fuzz {
    /// Inputs to begin with, beside those that were kept, and words that mean something.
    pub(crate) fn new(
        name: &str,
        seeds: impl IntoIterator<Item = Vec<u8>>,
        words: &'static [&'static str],
    ) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
        let mut paths: Vec<_> =
            std::fs::read_dir(&folder).expect("a corpus").flatten().map(|it| it.path()).collect();
        paths.sort();
        let kept = paths.iter().map(|path| std::fs::read(path).expect("an input"));
        let inputs = kept.chain(seeds).collect();
        let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        Self { folder, inputs, words, chance: seed }
    }

    /// Plays every input as it is, then as it is not.
    pub(crate) fn play(mut self, target: impl Fn(&[u8])) {
        for input in self.inputs.clone() {
            self.try_one(&input, &target);
        }
        let count = std::env::var("FUZZ_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(INPUTS);
        for _ in 0..count {
            let input = self.mutant();
            self.try_one(&input, &target);
        }
    }

    fn try_one(&self, input: &[u8], target: &impl Fn(&[u8])) {
        if catch_unwind(AssertUnwindSafe(|| target(input))).is_ok() {
            return;
        }
        let name = format!("found-{}", &blake3::hash(input).to_hex()[..16]);
        std::fs::write(self.folder.join(&name), input).expect("the corpus can be written to");
        panic!("{name} of the corpus broke a rule:\n{}", String::from_utf8_lossy(input));
    }

    fn mutant(&mut self) -> Vec<u8> {
        let mut input = self.any().clone();
        for _ in 0..=self.below(4) {
            self.mutate(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let from = self.below(input.len() + 1);
        let to = (from + self.below(16)).min(input.len());
        match self.below(8) {
            0 => drop(input.drain(from..to)),
            1 => {
                let part = input[from..to].to_vec();
                input.splice(from..from, part);
            }
            2 | 3 => {
                let word = self.words[self.below(self.words.len())];
                input.splice(from..to, word.bytes());
            }
            4 => {
                let other = self.any().clone();
                let start = self.below(other.len() + 1);
                let end = (start + self.below(200)).min(other.len());
                input.splice(from..to, other[start..end].iter().copied());
            }
            5 => {
                // Whole lines, which are what most of these inputs are made of.
                let mut lines: Vec<_> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                let (a, b) = (self.below(lines.len()), self.below(lines.len()));
                match self.below(3) {
                    0 => lines.swap(a, b),
                    1 => drop(lines.remove(a)),
                    _ => lines.insert(a, lines[b].clone()),
                }
                *input = lines.join(&b'\n');
            }
            6 => {
                if let Some(digit) = input.iter().skip(from).position(u8::is_ascii_digit) {
                    let at = from + digit;
                    let number =
                        ["0", "-1", "65535", "4294967295", "99999999999999999999", "1e308"][self.below(6)];
                    input.splice(at..=at, number.bytes());
                }
            }
            _ => {
                if let Some(byte) = input.get_mut(from) {
                    *byte ^= 1 << (self.chance % 8);
                }
            }
        }
    }

    fn any(&mut self) -> &Vec<u8> {
        let at = self.below(self.inputs.len());
        &self.inputs[at]
    }

    /// SplitMix64, so that a seed says all.
    fn below(&mut self, bound: usize) -> usize {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % (bound.max(1) as u64)).expect("below a size")
    }
}
