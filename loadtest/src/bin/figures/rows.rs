//! The files that `bench.sh` writes: for each section lines of kind, case, unit, repeat and value
//! with tabs between them, under a first line `# when, which commit, …`; and `machine.tsv`.

use std::fs;
use std::path::Path;

use crate::numbers::mean;

/// In this order sections are shown; others follow by name.
const ORDER: [&str; 8] =
    ["balance", "burst", "latency", "memory", "hotrow", "cron", "growth", "soak"];

/// Everything that was measured.
pub(crate) struct Measured {
    /// Names and values: what it was measured on.
    pub(crate) machine: Vec<(String, String)>,
    /// In the order in which they are shown.
    pub(crate) sections: Vec<Section>,
}

/// One file.
pub(crate) struct Section {
    /// Its name without the ending.
    pub(crate) name: String,
    /// When, at which commit, how often.
    pub(crate) note: String,
    /// In the order in which they were measured first.
    pub(crate) series: Vec<Series>,
}

/// One thing, measured once or more in each repeat.
pub(crate) struct Series {
    /// Such as `roof` or `throughput`.
    pub(crate) kind: String,
    /// What was measured.
    pub(crate) case: String,
    /// Such as `changes/s`.
    pub(crate) unit: String,
    values: Vec<(u32, f64)>,
}

impl Measured {
    /// Reads all files of the folder.
    ///
    /// # Errors
    /// A sentence on the first that cannot be read or understood.
    pub(crate) fn read(folder: &Path) -> Result<Measured, String> {
        let in_folder = |error| format!("{}: {error}", folder.display());
        let (mut machine, mut sections) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(in_folder)? {
            let path = entry.map_err(in_folder)?.path();
            if path.extension().is_none_or(|ending| ending != "tsv") {
                continue;
            }
            let at = |error: String| format!("{}: {error}", path.display());
            let text = fs::read_to_string(&path).map_err(|error| at(error.to_string()))?;
            match path.file_stem().unwrap_or_default().to_string_lossy().as_ref() {
                "machine" => machine = pairs(&text),
                name => sections.push(Section::parse(name, &text).map_err(at)?),
            }
        }
        let place = |name: &str| ORDER.iter().position(|known| *known == name);
        sections.sort_by_key(|section| {
            (place(&section.name).unwrap_or(ORDER.len()), section.name.clone())
        });
        Ok(Measured { machine, sections })
    }

    /// The section of this name.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let pair =
        |line: &str| line.split_once('\t').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.lines().filter_map(pair).collect()
}

impl Section {
    /// Reads one file.
    ///
    /// # Errors
    /// The first line that is neither a note nor a measured value.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Section, String> {
        let mut section =
            Section { name: name.to_owned(), note: String::new(), series: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            if let Some(note) = line.strip_prefix("# ") {
                section.note = note.to_owned();
                continue;
            }
            section.add(line).ok_or_else(|| format!("line {} is no value: {line}", number + 1))?;
        }
        Ok(section)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [kind, case, unit, repeat, value] = columns.as_slice() else {
            return None;
        };
        let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite())?;
        let value = (repeat.parse().ok()?, value);
        match self.series.iter_mut().find(|series| series.kind == *kind && series.case == *case) {
            Some(series) => series.values.push(value),
            None => self.series.push(Series {
                kind: (*kind).to_owned(),
                case: (*case).to_owned(),
                unit: (*unit).to_owned(),
                values: vec![value],
            }),
        }
        Some(())
    }

    /// The series of this kind and case.
    pub(crate) fn get(&self, kind: &str, case: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.kind == kind && series.case == case)
    }
}

impl Series {
    /// For each repeat its number and the mean of what was measured in it.
    pub(crate) fn repeats(&self) -> Vec<(u32, f64)> {
        let mut numbers: Vec<u32> = self.values.iter().map(|(repeat, _)| *repeat).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let of = |number| {
            let values = self.values.iter().filter(|(repeat, _)| *repeat == number);
            (number, mean(&values.map(|(_, value)| *value).collect::<Vec<_>>()))
        };
        numbers.into_iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_into_series() {
        let text = "# today, commit abc\nroof\thot\tchanges/s\t1\t10\nroof\thot\tchanges/s\t1\t14\n\
                    roof\thot\tchanges/s\t2\t20\nmemory\tidle\tMB\t1\t5.5\n";
        let section = Section::parse("balance", text).unwrap();
        assert_eq!(section.note, "today, commit abc");
        assert_eq!(section.get("roof", "hot").unwrap().repeats(), [(1, 12.0), (2, 20.0)]);
        assert_eq!(section.get("memory", "idle").unwrap().unit, "MB");
        assert!(section.get("roof", "idle").is_none());
    }

    #[test]
    fn what_is_no_value_is_refused_with_its_line() {
        for line in ["roof\thot\tchanges/s\t1", "roof\thot\t1/s\tfirst\t1", "a\tb\tc\t1\tNaN"] {
            let fault = Section::parse("balance", &format!("# note\n{line}")).err().unwrap();
            assert!(fault.starts_with("line 2 "), "{fault}");
        }
    }
}
