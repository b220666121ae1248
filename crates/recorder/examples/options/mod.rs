//! The command line of the examples: FOLDER [NAME=VALUE ...]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

/// What was given.
pub struct Options {
    pub folder: PathBuf,
    given: BTreeMap<String, String>,
}

impl Options {
    /// # Errors
    /// When there is no folder, or an option has another form.
    pub fn read() -> Result<Self, Box<dyn Error>> {
        let mut arguments = std::env::args().skip(1);
        let folder = PathBuf::from(arguments.next().ok_or("which folder should the dataset go to?")?);
        let mut given = BTreeMap::new();
        for argument in arguments {
            let (name, value) = argument.split_once('=').ok_or("options have the form NAME=VALUE")?;
            given.insert(name.to_owned(), value.to_owned());
        }
        Ok(Self { folder, given })
    }

    /// The option `name`, if it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// The option `name`, or what stands for it.
    pub fn text(&self, name: &str, default: &str) -> String {
        self.get(name).unwrap_or(default).to_owned()
    }

    /// # Errors
    /// When the option is no number.
    pub fn number(&self, name: &str, default: &str) -> Result<u32, Box<dyn Error>> {
        Ok(self.text(name, default).parse()?)
    }

    /// The option `size`, as width and height.
    ///
    /// # Errors
    /// When it is not WIDTHxHEIGHT.
    #[allow(dead_code, reason = "not every example asks for a size")]
    pub fn size(&self, default: &str) -> Result<(u32, u32), Box<dyn Error>> {
        let size = self.text("size", default);
        let (width, height) = size.split_once('x').ok_or("the size is WIDTHxHEIGHT")?;
        Ok((width.parse()?, height.parse()?))
    }
}

/// The most memory that this process had, where the system tells.
#[allow(dead_code, reason = "not every example measures")]
pub fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
