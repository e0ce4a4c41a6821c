"""The report as one HTML file: charts in inline SVG, tables, no other file and no script. Light and dark."""

from html import escape

from charts import bars
from ezio import EZIO, SOURCE
from report import STOPPED, SUBJECTS, distinct_places, measured, status, verdict

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f6f7f9; --ink: #1b2026; --soft: #5d6773; --line: #d5dae0;
  --ours: #0b7d86; --floor: #9aa4af; --rival: #5b7fb5; --good: #1c7c3c; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --card: #1c2229; --ink: #e6eaee; --soft: #9aa5b1;
  --line: #36404b; --ours: #35b8bf; --floor: #66717d; --rival: #6f96d1; --good: #5fcb83; --bad: #ff8a80; } }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 82rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.7rem; } h2 { margin: 2.5rem 0 .25rem; font-size: 1.2rem; }
p, .soft { color: var(--soft); } p { margin: .25rem 0 .75rem; max-width: 60rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(27rem, 1fr)); gap: 1rem; }
figure { margin: 0; padding: .75rem 1rem; background: var(--card); border-radius: .5rem; }
figcaption { font-weight: 600; margin-bottom: .25rem; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .soft { fill: var(--soft); } svg .axis { stroke: var(--line); }
svg .whisker { stroke: var(--ink); stroke-width: 1.25; opacity: .75; }
svg .ours { fill: var(--ours); } svg .floor { fill: var(--floor); } svg .rival { fill: var(--rival); }
.wide { overflow-x: auto; margin-top: .75rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .82rem; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); } td.name, th.name { text-align: left; }
td.said { text-align: left; white-space: normal; color: var(--soft); }
tr.ours td { font-weight: 600; } tr.ours td.name { color: var(--ours); } tr.floor td { color: var(--soft); }
.met { color: var(--good); font-weight: 600; } .missed { color: var(--bad); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; }
"""

NUMBERS = (
    ("GB/s", "gb_per_s", "{:.2f}", True),
    ("wall s", "wall_s", "{:.3f}", False),
    ("CPU s/GB", "cpu_s_per_gb", "{:.3f}", True),
    ("user", "user_s_per_gb", "{:.3f}", False),
    ("system", "sys_s_per_gb", "{:.3f}", False),
    ("leech's", "leech_cpu_s_per_gb", "{:.3f}", False),
    ("seed's", "seed_cpu_s_per_gb", "{:.3f}", False),
    ("RSS MB", "peak_rss_bytes", "{:.0f}", False),
    ("anon MB", "peak_anon_bytes", "{:.0f}", False),
    ("switches", "context_switches", "{:,.0f}", False),
)

NOTES = """Medians, with the least and the most. GB are 10<sup>9</sup> bytes. Each round ran all sides of a pairing once, in
an order that was shuffled for it, or in that of the round before backwards; downloads were compared byte for byte. A gap
under 10&nbsp;% with ranges that overlap is a tie. The yardsticks (grey) carry no protocol state: they
are the floor under every client on this machine."""


def page(told):
    parts = [heading(told), goals(told["targets"])]
    parts += [pairing(result) for result in told["pairings"]]
    parts += [clients(told), quoted()]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>ringtide: performance</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n{"".join(parts)}</body></html>\n'


def heading(told):
    machine = told["machine"]
    facts = {
        "CPU": f"{machine['cpu']}, {machine['cores']} cores; governor {machine['governor']}",
        "Virtual machine": machine["hypervisor"],
        "Memory": f"{machine['memory_bytes'] / 1e9:.0f} GB; huge pages {machine['huge_pages']}",
        "Kernel": f"Linux {machine['kernel']}; TCP {machine['congestion_control']}; scheduling {machine['scheduling']}",
        "Content": f"{told['bytes'] / 1e9:.2f} GB of random bytes, {told['rounds']} rounds, order seed {told['order_seed']}",
        "Places": ", ".join(result["place"] for result in distinct_places(told["pairings"])),
        "ringtide": machine["commit"],
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    stopped = f"<p>{STOPPED}</p>\n" if told["stopped"] else ""
    return f"<h1>ringtide and other BitTorrent clients</h1>\n<p>{NOTES}</p>\n{stopped}<dl>{rows}</dl>\n"


def goals(told):
    rows = ""
    for goal in told:
        kind = {True: "met", False: "missed", None: "soft"}[goal["met"]]
        cells = f"<td>{escape(goal['goal'])}</td><td>{measured(goal)}</td><td class='{kind}'>{verdict(goal)}</td>"
        rows += f"<tr><td class='name'>{escape(goal['about'])}</td>{cells}</tr>\n"
    head = "<tr><th class='name'>goal</th><th>bound</th><th>measured</th><th></th></tr>"
    return f"<h2>Goals</h2>\n<div class='wide'><table>{head}{rows}</table></div>\n"


def pairing(result):
    sides = {name: own["spread"] for name, own in result["sides"].items() if "spread" in own}
    charts = ""
    if sides:
        whose = SUBJECTS[result["subject"]]
        charts = chart("GB/s: longer is better", sides, "gb_per_s")
        charts += chart(f"CPU seconds per GB {whose}: shorter is better", sides, "cpu_s_per_gb")
    title = f"<h2 id='{result['name']}'>{escape(result['title'])}</h2>"
    where = f"<p>{escape(result['place'])}; <code>perf/run --only {result['name']}</code></p>"
    return f"{title}{where}\n<div class='charts'>{charts}</div>\n{table(result)}"


def chart(caption, sides, measure):
    rows = [(name, kind(name), sides[name][measure]) for name in sides]
    return f"<figure><figcaption>{escape(caption)}</figcaption>{bars(rows, caption)}</figure>\n"


def kind(name):
    if name.startswith("ringtide"):
        return "ours"
    return "floor" if name.startswith(("floor", "bare seed", "fio")) else "rival"


def table(result):
    titles = [title for title, *_ in NUMBERS] + ["speed/floor", "CPU/floor"]
    head = "<tr><th class='name'></th>" + "".join(f"<th>{title}</th>" for title in titles) + "</tr>"
    rows = "".join(row(name, own, len(titles)) for name, own in result["sides"].items())
    return f"<div class='wide'><table>{head}\n{rows}</table></div>\n"


def row(name, own, width):
    if "spread" not in own:
        cells = f"<td class='said' colspan='{width}'>{escape(status(own))}</td>"
    else:
        told = (number(own["spread"].get(measure), measure, shape, ranged) for _, measure, shape, ranged in NUMBERS)
        cells = "".join(f"<td>{text}</td>" for text in told)
        floor = own.get("of_floor")
        cells += f"<td>{floor['gb_per_s']:.2f}</td><td>{floor['cpu']:.2f}</td>" if floor else "<td></td><td></td>"
        if status(own):
            cells += f"</tr><tr><td></td><td class='said' colspan='{width}'>{escape(name)}: {escape(status(own))}</td>"
    return f"<tr class='{kind(name)}'><td class='name'>{escape(name)}</td>{cells}</tr>\n"


def number(spread, measure, shape, ranged):
    if spread is None:
        return "–"
    unit = 1e6 if measure.endswith("_bytes") else 1
    least, median, most = (shape.format(spread[of] / unit) for of in ("min", "median", "max"))
    return f"{median} <span class='soft'>({least}–{most})</span>" if ranged else median


def clients(told):
    rows = ""
    for name, own in told["clients"].items():
        cells = f"<td class='said'>{escape(own['version'] or 'missing: ' + told['missing'].get(name, 'unknown'))}</td>"
        rows += f"<tr><td class='name'>{escape(name)}</td>{cells}<td class='said'>{escape(own['clock'])}</td></tr>\n"
    head = "<tr><th class='name'></th><th class='name'>version</th><th class='name'>wall time as a leech</th></tr>"
    return f"<h2>Clients</h2>\n<div class='wide'><table>{head}{rows}</table></div>\n"


def quoted():
    rows = ""
    for what, *said in EZIO:
        cells = "".join(f"<td class='said'>{escape(text)}</td>" for text in said)
        rows += f"<tr><td class='name'>{escape(what)}</td>{cells}</tr>"
    about = f"Quoted from {escape(SOURCE)}; not measured here."
    return f"<h2>EZIO, as it is published</h2>\n<p>{about}</p>\n<div class='wide'><table>{rows}</table></div>\n"
