//! What makes the daemon start at boot, as files.

use std::path::{Path, PathBuf};

/// A file's first line, by which it is known as one of ours.
const MARK: &str = "# Written by `sinew daemon install`.";

/// A file that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Below the root.
    pub path: PathBuf,
    pub text: String,
}

/// Who the daemon runs as.
pub struct User {
    pub name: String,
    pub home: PathBuf,
}

/// A word as systemd reads it in a command line.
fn quoted(word: &str) -> String {
    in_quotes(word, &word.replace('$', "$$"))
}

/// The same of a variable, in which `$` is a character like any other.
fn quoted_variable(word: &str) -> String {
    in_quotes(word, word)
}

fn in_quotes(word: &str, escaped: &str) -> String {
    let escaped = escaped.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    let is_plain = !word.is_empty() && escaped == word && !word.contains(|c: char| c.is_whitespace() || c == '\'' || c == ';');
    if is_plain { word.to_owned() } else { format!("\"{escaped}\"") }
}

/// Whether `text` stays one line of a unit, whatever is written around it.
pub fn is_one_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// The files for a daemon of `program` with these `options`.
pub fn pieces(program: &Path, user: &User, options: &[String], udev: &str) -> Vec<Piece> {
    let line: Vec<String> = [program.display().to_string(), "daemon".to_owned(), "--state=/var/lib/sinew".to_owned()]
        .iter()
        .chain(options)
        .map(|word| quoted(word))
        .collect();
    let calibrations = user.home.join(".cache/huggingface/lerobot/calibration");
    let unit = format!(
        "{MARK}\n[Unit]\n\
         Description=Sinew, the owner of a robot\n\
         Documentation=man:sinew(1)\n\
         After=network.target\n\
         StartLimitIntervalSec=60\n\
         StartLimitBurst=5\n\n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=main\n\
         # Made before all else is read-only: who calibrates an arm over the interface writes there.\n\
         ExecStartPre=+runuser -u {user} -- mkdir -p {made}\n\
         ExecStart={}\n\
         User={}\n\
         SupplementaryGroups=dialout video input\n\
         WatchdogSec=2s\n\
         Restart=on-failure\n\
         RestartSec=2s\n\
         # The daemon brings the arm to rest first; its watchdog, the second process, stays until that is done.\n\
         KillMode=mixed\n\
         TimeoutStopSec=20s\n\
         StateDirectory=sinew\n\
         StateDirectoryMode=0700\n\
         Environment=HF_HOME=/var/lib/sinew/huggingface\n\
         Environment={}\n\
         LimitRTPRIO=60\n\
         LimitMEMLOCK=infinity\n\
         LimitNICE=-10\n\
         OOMScoreAdjust=-500\n\
         ProtectSystem=strict\n\
         ProtectHome=read-only\n\
         ReadWritePaths={written}\n\
         PrivateTmp=yes\n\
         NoNewPrivileges=yes\n\
         DevicePolicy=closed\n\
         DeviceAllow=char-ttyACM rw\n\
         DeviceAllow=char-ttyUSB rw\n\
         DeviceAllow=char-video4linux rw\n\
         DeviceAllow=char-input r\n\
         RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_CAN\n\
         ProtectKernelTunables=yes\n\
         ProtectKernelModules=yes\n\
         ProtectControlGroups=yes\n\
         RestrictSUIDSGID=yes\n\
         LockPersonality=yes\n\n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        line.join(" "),
        user.name,
        quoted_variable(&format!("HF_LEROBOT_CALIBRATION={}", calibrations.display())),
        user = quoted(&user.name),
        made = quoted(&calibrations.display().to_string()),
        written = quoted_variable(&format!("-{}", calibrations.display())),
    );
    let limits = format!(
        "{MARK}\n# For `sinew rollout --realtime` and the like from a login of {name}.\n{name} - rtprio 60\n{name} - memlock unlimited\n{name} - nice -10\n",
        name = user.name
    );
    let piece = |path: &str, text: String| Piece { path: path.into(), text };
    vec![
        piece("etc/systemd/system/sinew-daemon.service", unit),
        piece("etc/udev/rules.d/70-sinew.rules", format!("{MARK}\n{udev}")),
        piece("etc/security/limits.d/60-sinew.conf", limits),
    ]
}

/// Whether a file may be written over: it is not there, or one of ours.
pub fn is_ours(path: &Path) -> std::io::Result<bool> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.starts_with(MARK)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word() {
        for (word, expected) in [
            ("--rig", "--rig"),
            ("a b", "\"a b\""),
            ("", "\"\""),
            ("50%", "\"50%%\""),
            ("$HOME", "\"$$HOME\""),
            ("say \"hi\"", "\"say \\\"hi\\\"\""),
            ("it's", "\"it's\""),
            (";", "\";\""),
            ("a\\nb", "\"a\\\\nb\""),
            ("${HOME}%h", "\"$${HOME}%%h\""),
        ] {
            assert_eq!(quoted(word), expected);
        }
        assert_eq!(quoted_variable("A=/srv/$x 5%"), "\"A=/srv/$x 5%%\"");
        assert!(is_one_line("a b%$\"") && !is_one_line("a\nExecStartPre=/bin/x") && !is_one_line("a\r") && !is_one_line("\u{1b}"));
    }

    #[test]
    fn the_unit_starts_the_daemon_as_its_user() {
        let user = User { name: "ada".into(), home: "/srv/ada".into() };
        let options = ["--rig".to_owned(), "kitchen".to_owned(), "--instruction=Put it.".to_owned()];
        let pieces = pieces(Path::new("/usr/bin/sinew"), &user, &options, "rules\n");
        let unit = &pieces[0].text;
        assert!(
            unit.contains("ExecStart=/usr/bin/sinew daemon --state=/var/lib/sinew --rig kitchen \"--instruction=Put it.\"\n"),
            "{unit}"
        );
        for line in ["User=ada", "Type=notify", "WatchdogSec=2s", "KillMode=mixed", "LimitRTPRIO=60"] {
            assert!(unit.lines().any(|found| found == line), "{line}");
        }
        assert!(!unit.contains("RestrictRealtime") && !unit.contains("PrivateDevices"), "the robot needs both");
        assert_eq!(pieces[1].text, format!("{MARK}\nrules\n"));
    }

    #[test]
    fn a_file_of_somebody_else_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert!(is_ours(&path).unwrap());
        std::fs::write(&path, "[Unit]\n").unwrap();
        assert!(!is_ours(&path).unwrap());
        std::fs::write(&path, format!("{MARK}\n[Unit]\n")).unwrap();
        assert!(is_ours(&path).unwrap());
    }
}
