use super::{Curve, Page, Picture, Report, plot};
use crate::evaluate::finding::{Entry, Figure, Finding, Found, Tile};
use crate::evaluate::words::{count, percent};
use std::fmt::Write;

/// The page as one self-contained HTML document: no scripts, nothing fetched.
pub fn html(page: &Page) -> String {
    let recipe = escape(&page.report.recipe);
    let mut sections: Vec<(&str, &str, String)> =
        vec![("summary", "Summary", summary(&page.report.findings))];
    let found = page.report.findings.iter().flat_map(|finding| &finding.pictures);
    let shown: Vec<&Picture> = found.chain(&page.pictures).collect();
    if !shown.is_empty() {
        sections.push(("pictures", "Pictures", pictures(&shown)));
    }
    let plotted: Vec<&Curve> =
        page.report.findings.iter().flat_map(|finding| &finding.curves).collect();
    if !plotted.is_empty() {
        sections.push(("curves", "Curves", curves(&plotted)));
    }
    if !page.curves.is_empty() {
        sections.push(("training", "Training", curves(&page.curves.iter().collect::<Vec<_>>())));
    }
    if !page.report.stages.is_empty() {
        sections.push(("stages", "Stages", stages(&page.report)));
    }
    sections.push(("figures", "All figures", figures(&page.report.findings)));
    sections.push(("provenance", "Provenance", provenance(page)));
    let (mut links, mut body) = (String::new(), String::new());
    for (id, title, content) in &sections {
        _ = writeln!(links, "<a href=\"#{id}\">{title}</a>");
        _ = writeln!(
            body,
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{title}</h2>\n\
             {content}</section>\n"
        );
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; \
         style-src 'unsafe-inline'\">\n<title>{recipe} – umbra report</title>\n\
         <style>\n{}</style>\n</head>\n<body>\n<header>\n<p class=\"kicker\">umbra report</p>\n\
         <h1>{recipe}</h1>\n<p class=\"banner\" role=\"note\"><strong>Synthetic images. Not for \
         clinical use.</strong> Generated radiographs show no patient and no finding; figures describe \
         the model, not a diagnosis.</p>\n<nav aria-label=\"Sections\">\n{links}</nav>\n</header>\n\
         <main>\n{body}</main>\n<footer>\n<p>Made by umbra {}. The same figures for machines: \
         <code>report.json</code> beside this page.</p>\n</footer>\n</body>\n</html>\n",
        include_str!("style.css"),
        env!("CARGO_PKG_VERSION"),
    )
}

fn summary(findings: &[Finding]) -> String {
    let mut tiles: Vec<&Tile> = findings.iter().flat_map(|finding| &finding.tiles).collect();
    tiles.sort_by_key(|tile| tile.rank);
    let mut out = String::new();
    for (finding, verdict) in findings.iter().filter_map(|it| Some((it, it.verdict.as_ref()?))) {
        let (kind, word) = if verdict.passed { ("passed", "Passed") } else { ("failed", "Failed") };
        _ = writeln!(
            out,
            "<p class=\"verdict {kind}\"><strong>{}: {word}.</strong> {}</p>",
            escape(&finding.title),
            escape(&verdict.reason)
        );
    }
    out += "<div class=\"tiles\">\n";
    for tile in &tiles {
        let meter = tile.meter.as_ref().map_or(String::new(), |meter| {
            let place = |value: f64| value.clamp(0.0, 1.0) * 100.0;
            let marks: String = meter
                .marks
                .iter()
                .map(|&mark| format!("<i style=\"left:{:.2}%\"></i>", place(mark)))
                .collect();
            format!(
                "<div class=\"meter\" aria-hidden=\"true\"><b style=\"width:{:.2}%\"></b>{marks}</div>\n",
                place(meter.value)
            )
        });
        _ = write!(
            out,
            "<article class=\"tile\">\n<h3>{}</h3>\n<p class=\"value\">{}</p>\n{meter}",
            escape(&tile.label),
            escape(&tile.value)
        );
        if let Some(reason) = &tile.reason {
            _ = writeln!(out, "<p class=\"reason\">Not available: {}.</p>", escape(reason));
        }
        out += "<dl>\n";
        for (name, value) in &tile.beside {
            _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
        }
        _ = writeln!(out, "</dl>\n<p class=\"meaning\">{}</p>\n</article>", escape(&tile.meaning));
    }
    out += "</div>\n";
    if tiles.iter().any(|tile| tile.meter.is_some()) {
        out += "<p class=\"note\">Bars run from 0 to 100 %; ticks on them mark chance and other \
                levels that are named under the bar.</p>\n";
    }
    out
}

fn pictures(pictures: &[&Picture]) -> String {
    let mut out = String::from("<div class=\"pictures\">\n");
    for picture in pictures {
        // A PNG has its width and height at bytes 16 and 20; the browser then keeps the place free.
        let side = |at: usize| {
            let bytes = picture.png.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let size = match (side(16), side(20)) {
            (Some(width), Some(height)) => {
                format!(
                    " width=\"{width}\" height=\"{height}\" style=\"max-width:{}px\"",
                    u64::from(width) * 2
                )
            }
            _ => String::new(),
        };
        let (title, caption) = (escape(&picture.title), escape(&picture.caption));
        _ = writeln!(
            out,
            "<figure>\n<img alt=\"{title}. {caption}\"{size} src=\"data:image/png;base64,{}\">\n\
             <figcaption><strong>{title}.</strong> {caption}</figcaption>\n</figure>",
            base64(&picture.png)
        );
    }
    out + "</div>\n"
}

fn curves(curves: &[&Curve]) -> String {
    let plots: String = curves.iter().copied().map(plot::figure).collect();
    let mut out = format!("<div class=\"plots\">\n{plots}</div>\n");
    if curves.iter().copied().any(plot::is_thinned) {
        out += "<p class=\"note\">Long series are drawn as means of neighbouring points, and end at \
                the last such mean.</p>\n";
    }
    out
}

fn stages(report: &Report) -> String {
    let total: f64 = report.stages.iter().filter_map(|stage| stage.seconds.value()).sum();
    let mut out = String::from(
        "<table class=\"stages\">\n<thead><tr><th scope=\"col\">Stage</th><th scope=\"col\" \
         class=\"num\">Time</th><th scope=\"col\" class=\"num\">Images per second</th><th \
         scope=\"col\" class=\"share\">Share of time</th></tr></thead>\n<tbody>\n",
    );
    for stage in &report.stages {
        let share =
            stage.seconds.value().map_or(0.0, |seconds| seconds / total.max(f64::MIN_POSITIVE));
        _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"num\">{}</td><td class=\"num\">{}</td><td \
             class=\"share\"><span class=\"bar\" style=\"width:{:.1}%\"></span><span \
             class=\"share-text\">{}</span></td></tr>",
            escape(&stage.name),
            cell(&stage.seconds, duration),
            cell(&stage.images_per_second, rate),
            share * 72.0,
            percent(share)
        );
    }
    _ = write!(
        out,
        "</tbody>\n<tfoot><tr><th scope=\"row\">Together</th><td class=\"num\">{}</td><td></td><td \
         class=\"share\"></td></tr></tfoot>\n</table>\n",
        duration(total)
    );
    out
}

/// A figure in a table; the reason of a missing one as its title, and read aloud.
fn cell(figure: &Figure, format: impl Fn(f64) -> String) -> String {
    match figure {
        Figure::Known(value) | Figure::Between { value, .. } => escape(&format(*value)),
        Figure::Missing(reason) => {
            let reason = escape(reason);
            format!("<span title=\"{reason}\">–<span class=\"hidden\"> {reason}</span></span>")
        }
    }
}

fn figures(findings: &[Finding]) -> String {
    let mut out = String::from("<div class=\"groups\">\n");
    for group in findings.chunk_by(|a, b| a.title == b.title) {
        _ = writeln!(
            out,
            "<table class=\"figures\">\n<caption>{}</caption>\n<thead class=\"hidden\"><tr><th \
             scope=\"col\">Figure</th><th scope=\"col\">Value</th></tr></thead>\n<tbody>",
            escape(&group[0].title)
        );
        for finding in group {
            finding.entries.iter().for_each(|entry| row(&mut out, &finding.key, entry));
        }
        out += "</tbody>\n</table>\n";
    }
    out + "</div>\n"
}

/// A value of the section `key`, if there are words for it.
fn row(out: &mut String, key: &str, entry: &Entry) {
    let Some(words) = &entry.words else { return };
    let reason = match &entry.value {
        Found::Figure(Figure::Missing(reason)) => {
            format!("<span class=\"reason\">Not available: {}.</span> ", escape(reason))
        }
        _ => String::new(),
    };
    _ = writeln!(
        out,
        "<tr><th scope=\"row\">{}<span class=\"definition\">{reason}{}</span><code>{}.{}</code>\
         </th><td class=\"num\">{}</td></tr>",
        escape(&words.name),
        escape(&words.definition),
        escape(key),
        escape(&entry.key),
        escape(&words.value)
    );
}

fn provenance(page: &Page) -> String {
    let mut out = String::new();
    if !page.environment.is_empty() {
        out += "<table class=\"environment\">\n<caption>Environment</caption>\n<tbody>\n";
        for (name, value) in &page.environment {
            _ = writeln!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
                escape(name),
                escape(value)
            );
        }
        out += "</tbody>\n</table>\n";
    }
    _ = writeln!(
        out,
        "<details>\n<summary>The resolved recipe, defaults filled in</summary>\n<pre \
         tabindex=\"0\"><code>{}</code></pre>\n</details>",
        escape(&page.recipe)
    );
    out
}

/// Text as HTML shows it, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\0' => {}
            _ => out.push(letter),
        }
    }
    out
}

fn rate(per_second: f64) -> String {
    if per_second < 100.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

fn duration(seconds: f64) -> String {
    if seconds < 59.95 {
        return format!("{seconds:.1}\u{a0}s");
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 {
        format!("{}\u{a0}h {minutes:02}\u{a0}min", count(hours))
    } else {
        format!("{minutes}\u{a0}min {seconds:02}\u{a0}s")
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            if at <= chunk.len() {
                out.push(char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::page::sample;
    use super::*;

    #[test]
    fn nothing_is_fetched_and_every_picture_is_described() {
        let page = html(&sample());
        for forbidden in ["http://", "https://", "<script", "<link", "@import", "url("] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert_eq!(page.matches("<img ").count(), 2);
        assert_eq!(page.matches("<img alt=\"Reconstructions. Each row").count(), 1);
        assert!(page.contains("Not for clinical use."));
        assert_eq!(page.matches("<h1>").count(), 1);
        assert_eq!(page.matches("class=\"plot\"").count(), 4);
    }

    #[test]
    fn text_is_only_ever_text() {
        let evil = "<img src=x onerror=alert(1)>\"'&";
        let mut page = sample();
        page.report.recipe = evil.into();
        page.report.findings[0].figure(
            "evil",
            &Figure::missing(evil),
            |_| evil.into(),
            "Evil",
            evil,
        );
        page.report.findings[0].key = evil.into();
        page.report.stages[0].name = evil.into();
        page.report.stages[0].seconds = Figure::missing(evil);
        page.pictures[0].title = evil.into();
        page.pictures[0].caption = evil.into();
        page.curves[0].title = evil.into();
        page.curves[0].x_label = evil.into();
        page.curves[0].y_label = evil.into();
        page.curves[0].series[0].name = evil.into();
        page.recipe = evil.into();
        page.environment.push((evil.into(), evil.into()));
        let page = html(&page);
        assert!(!page.contains("<img src=x") && !page.contains("alert(1)>\""));
        assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"));
    }

    #[test]
    fn an_empty_page_is_a_page() {
        let page = html(&Page::default());
        assert!(page.contains("<h2 id=\"figures-title\">") && !page.contains("NaN"));
        assert!(!page.contains("id=\"pictures\""));
    }

    #[test]
    fn times_read_well() {
        let times =
            [2.13, 59.96, 263.0, 7260.0].map(duration).map(|text| text.replace('\u{a0}', " "));
        assert_eq!(times, ["2.1 s", "1 min 00 s", "4 min 23 s", "2 h 01 min"]);
    }

    /// The examples of RFC 4648, section 10.
    #[test]
    fn base64_gives_the_published_answers() {
        let found = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes()));
        let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(found, expected);
    }
}
