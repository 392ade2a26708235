//! `figures FOLDER`: what `bench.sh` has measured (`FOLDER/*.tsv`), as tables with medians, spreads
//! and ratios (`README.md`) and as a picture (`figures.svg`), both written to the same folder.
//!
//! In reading order: [`rows`] (the files) → [`numbers`] (medians, spreads) → [`compare`] (which
//! figure is held against which) → [`bars`] (what had to be reached) → [`page`] and [`picture`].

mod bars;
mod compare;
mod numbers;
mod page;
mod picture;
mod rows;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use rows::Measured;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = arguments.as_slice() else {
        eprintln!("Usage: figures FOLDER, the one into which bench.sh writes");
        return ExitCode::from(2);
    };
    match write(Path::new(folder)) {
        Ok(page) => {
            println!("{page}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("figures: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Writes both files and returns the page.
fn write(folder: &Path) -> Result<String, String> {
    let measured = Measured::read(folder)?;
    let page = page::render(&measured);
    for (name, text) in [("README.md", &page), ("figures.svg", &picture::render(&measured))] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(page)
}
