//! Sample functions: each computes something, in steps spread over the least time of a run.

use serde_json::{Map, Value};

use super::Pace;
use crate::cron::Failure;

const STEPS: u32 = 60;
/// The part of the least time to wait after all steps together.
const REST: f64 = 0.95;

const PRIMES_BELOW: u64 = 300_000;
/// Below this a step takes less than a second.
const PRIMES_BELOW_MAX: u64 = 5_000_000;
const TERMS_A_STEP: u32 = 100_000;

pub(super) const BELOW_RULE: &str =
    "{\"below\": a whole number from 1 to 5000000}, or {}: then it is 300000";

/// Below which number primes are counted; None where the arguments say something else.
pub(super) fn below(arguments: &Map<String, Value>) -> Option<u64> {
    let Some(below) = arguments.get("below") else {
        return arguments.is_empty().then_some(PRIMES_BELOW);
    };
    let below = below.as_u64().filter(|below| (1..=PRIMES_BELOW_MAX).contains(below));
    below.filter(|_| arguments.len() == 1)
}

/// Counts prime numbers below this one, by trial division.
pub(super) fn count_primes(pace: &Pace<'_>, below: u64) -> Result<String, Failure> {
    let mut primes = 0;
    for step in 0..STEPS {
        let from = |step: u32| below * u64::from(step) / u64::from(STEPS);
        primes += (from(step)..from(step + 1)).filter(|number| is_prime(*number)).count();
        rest(pace, step)?;
    }
    Ok(format!("{primes} primes below {below}"))
}

/// Estimates pi by Leibniz's series, 4 − 4/3 + 4/5 − …
pub(super) fn estimate_pi(pace: &Pace<'_>) -> Result<String, Failure> {
    let mut sum = 0.0;
    for step in 0..STEPS {
        for term in TERMS_A_STEP * step..TERMS_A_STEP * (step + 1) {
            let sign = if term % 2 == 0 { 4.0 } else { -4.0 };
            sum += sign / f64::from(2 * term + 1);
        }
        rest(pace, step)?;
    }
    Ok(format!("pi is about {sum:.6}, after {} terms", TERMS_A_STEP * STEPS))
}

/// Reports that a step is done, and waits, so that the steps are spread over the least time.
fn rest(pace: &Pace<'_>, step: u32) -> Result<(), Failure> {
    pace.report(f64::from(step + 1) / f64::from(STEPS));
    pace.context.wait(pace.least.mul_f64(REST) / STEPS)
}

fn is_prime(number: u64) -> bool {
    number >= 2 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_primes() {
        let found: Vec<u64> = (0..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(found, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
    }
}
