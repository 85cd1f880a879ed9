//! A page of figures, in one of two formats that differ in little but names: OpenMetrics names a counter without
//! `_total`, knows units and information, and says where it ends.

use std::fmt::Write as _;

use super::histogram::Histogram;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Prometheus,
    OpenMetrics,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl Format {
    /// What an `Accept` header prefers; the older format if it says nothing of the newer.
    pub fn accepted(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        let (mut newer, mut older) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            let quality = quality.unwrap_or(1.0);
            match kind {
                OPEN_METRICS => newer = quality.max(newer),
                "text/plain" | "text/*" => older = quality.max(older),
                _ => {}
            }
        }
        match newer > 0.0 && newer >= older {
            true => Self::OpenMetrics,
            false => Self::Prometheus,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows only; its name is given without `_total`.
    Counter,
    Gauge,
    Histogram,
    /// Words about something; its name is given without `_info`.
    Info,
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Info => "_info",
            Self::Gauge | Self::Histogram => "",
        }
    }

    fn word(self, format: Format) -> &'static str {
        match (self, format) {
            (Self::Counter, _) => "counter",
            (Self::Gauge, _) | (Self::Info, Format::Prometheus) => "gauge",
            (Self::Histogram, _) => "histogram",
            (Self::Info, Format::OpenMetrics) => "info",
        }
    }
}

/// Suffixes of names that say a unit.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

#[derive(Debug)]
pub struct Page {
    format: Format,
    text: String,
}

impl Page {
    pub fn new(format: Format) -> Self {
        Self {
            format,
            text: String::new(),
        }
    }

    /// All samples of one name, which are to be written together. One without samples is not on the page.
    pub fn family(&mut self, kind: Kind, name: &'static str, help: &'static str) -> Family<'_> {
        Family {
            page: self,
            kind,
            name,
            help,
            has_begun: false,
        }
    }

    /// Of something that there is once.
    pub fn single(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        value: impl Figure,
    ) {
        self.family(kind, name, help).sample(&[], value);
    }

    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// A number that can be written.
pub trait Figure {
    fn write(self, text: &mut String);
}

impl Figure for u64 {
    fn write(self, text: &mut String) {
        push(text, format_args!("{self}"));
    }
}

impl Figure for f64 {
    fn write(self, text: &mut String) {
        push(text, format_args!("{self:?}")); // always with a point: it may be a bound
    }
}

pub struct Family<'a> {
    page: &'a mut Page,
    kind: Kind,
    name: &'static str,
    help: &'static str,
    has_begun: bool,
}

impl Family<'_> {
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Figure) -> &mut Self {
        self.line(self.kind.suffix(), labels, None, value);
        self
    }

    /// Left out as long as nothing was observed.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) -> &mut Self {
        let seen = histogram.look();
        if seen.count == 0 {
            return self;
        }
        for (bound, count) in &seen.buckets {
            let mut text = String::new();
            bound.write(&mut text);
            self.line("_bucket", labels, Some(&text), *count);
        }
        self.line("_bucket", labels, Some("+Inf"), seen.count);
        self.line("_sum", labels, None, seen.seconds);
        self.line("_count", labels, None, seen.count);
        self
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Figure,
    ) {
        self.begin();
        let text = &mut self.page.text;
        push(text, format_args!("{}{suffix}", self.name));
        let labels = labels
            .iter()
            .copied()
            .chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (name, value) in labels {
            push(text, format_args!("{before}{name}=\""));
            escape(text, value);
            text.push('"');
            before = ',';
        }
        if before == ',' {
            text.push('}');
        }
        text.push(' ');
        value.write(text);
        text.push('\n');
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let Page { format, text } = &mut *self.page;
        let (name, help) = (self.name, self.help);
        let suffix = match format {
            Format::Prometheus => self.kind.suffix(),
            Format::OpenMetrics => "",
        };
        push(text, format_args!("# HELP {name}{suffix} {help}\n"));
        let word = self.kind.word(*format);
        push(text, format_args!("# TYPE {name}{suffix} {word}\n"));
        let unit = name.rsplit('_').next().filter(|unit| UNITS.contains(unit));
        if let (Format::OpenMetrics, Some(unit)) = (*format, unit) {
            push(text, format_args!("# UNIT {name} {unit}\n"));
        }
    }
}

fn push(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a string takes all");
}

fn escape(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            _ => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.family(Kind::Info, "par_build", "What runs.")
            .sample(&[("version", "1\"\\\n")], 1);
        page.family(Kind::Counter, "calls", "Calls.")
            .sample(&[("agent", "a"), ("outcome", "2xx")], 3)
            .sample(&[("agent", "b"), ("outcome", "2xx")], 4);
        page.family(Kind::Counter, "never", "Nothing.");
        page.single(Kind::Gauge, "memory_bytes", "Memory.", 1.5);
        let histogram = Histogram::default();
        page.family(Kind::Histogram, "empty_seconds", "None.")
            .histogram(&[], &histogram);
        histogram.observe(Duration::from_secs(2));
        page.family(Kind::Histogram, "took_seconds", "Time.")
            .histogram(&[("agent", "a")], &histogram);
        page.finish()
    }

    #[test]
    fn the_text_format_of_prometheus() {
        let text = page(Format::Prometheus);
        let (beginning, histogram) = text.split_once("# HELP took").expect("a histogram");
        assert_eq!(
            beginning,
            r#"# HELP par_build_info What runs.
# TYPE par_build_info gauge
par_build_info{version="1\"\\\n"} 1
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{agent="a",outcome="2xx"} 3
calls_total{agent="b",outcome="2xx"} 4
# HELP memory_bytes Memory.
# TYPE memory_bytes gauge
memory_bytes 1.5
"#
        );
        for line in [
            r#"took_seconds_bucket{agent="a",le="1.0"} 0"#,
            r#"took_seconds_bucket{agent="a",le="2.5"} 1"#,
            r#"took_seconds_bucket{agent="a",le="+Inf"} 1"#,
            r#"took_seconds_sum{agent="a"} 2.0"#,
            r#"took_seconds_count{agent="a"} 1"#,
        ] {
            assert!(histogram.lines().any(|found| found == line), "{histogram}");
        }
    }

    #[test]
    fn open_metrics() {
        let text = page(Format::OpenMetrics);
        for line in [
            "# TYPE par_build info",
            "# TYPE calls counter",
            r#"calls_total{agent="a",outcome="2xx"} 3"#,
            "# UNIT memory_bytes bytes",
            "# UNIT took_seconds seconds",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        for (accept, format) in [
            (None, Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("text/plain"), Format::Prometheus),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                Format::OpenMetrics,
            ),
            (
                Some("application/openmetrics-text;q=0.1, text/plain"),
                Format::Prometheus,
            ),
            (Some("application/openmetrics-text;q=0"), Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept:?}");
        }
    }
}
