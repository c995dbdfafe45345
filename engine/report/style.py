"""How the report looks: light and dark, on a desk and on a phone."""

CSS = """
:root{color-scheme:light dark;--paper:#fff;--card:#fff;--wash:#f5f6f8;--ink:#16191d;--dim:#626a75;
--line:#dfe2e7;--kept:#1a8a4a;--rejected:#d92d3a;--superseded:#98a0ab;--any:#4b7bd1;--link:#1f5fbf;
--shadow:0 1px 2px rgba(20,25,35,.06)}
@media(prefers-color-scheme:dark){:root{--paper:#121417;--card:#191c20;--wash:#1f2329;--ink:#e7eaee;
--dim:#98a1ad;--line:#2c3138;--kept:#3fbf74;--rejected:#ff5d68;--superseded:#6d7681;--any:#6e9bea;
--link:#84b0ff;--shadow:none}}
*{box-sizing:border-box}
html{scroll-padding-top:3.4rem;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue","Noto Sans",Arial,sans-serif;overflow-wrap:anywhere}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 1.25rem}
header{padding-top:2rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem;letter-spacing:-.015em;font-weight:650}
h2{font-size:1.2rem;margin:0 0 .25rem;letter-spacing:-.01em;font-weight:650}
h3{font-size:1rem;margin:0;font-weight:650}
section{padding:1.9rem 0 .3rem}
p{margin:.3rem 0}
a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}
.dim,.note{color:var(--dim)}.note{margin:0 0 .9rem;max-width:46rem}
.mono,code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.87em}
.warn{border-left:3px solid var(--rejected);background:var(--wash);padding:.6rem .9rem;
margin:1rem 0 0;border-radius:0 6px 6px 0}
nav{position:sticky;top:0;z-index:3;background:var(--paper);border-bottom:1px solid var(--line);
margin-top:1.2rem}
nav div{max-width:1120px;margin:0 auto;padding:.55rem 1.25rem;display:flex;gap:1.15rem;
overflow-x:auto;white-space:nowrap;scrollbar-width:none}
nav a{color:var(--dim);font-size:.92rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(158px,1fr));gap:.75rem;
margin-top:1.3rem}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;
box-shadow:var(--shadow)}
.tile{padding:.75rem .9rem}
.tile b{display:block;font-size:1.5rem;line-height:1.25;font-weight:650;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.tile span{color:var(--dim);font-size:.86rem}
.tile.kept b,.t-kept{color:var(--kept)}.tile.rejected b,.t-rejected{color:var(--rejected)}
.scroll{overflow-x:auto;margin:.3rem 0 .8rem}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th{text-align:left;color:var(--dim);font-weight:500;font-size:.84rem;white-space:nowrap;
border-bottom:1px solid var(--line);padding:.3rem .9rem .3rem 0}
td{padding:.36rem .9rem .36rem 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:break-word}
td bdi{overflow-wrap:break-word}
td:first-child{min-width:4.6rem}td:first-child bdi{overflow-wrap:anywhere}
th:last-child,td:last-child{padding-right:0}
tr:last-child td{border-bottom:0}
td.bars{min-width:120px;width:24%}
.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
svg.bar{display:block;width:100%;height:9px;margin-top:.42rem;border-radius:2px;
background:var(--wash)}
rect.kept{fill:var(--kept)}rect.rejected{fill:var(--rejected)}
rect.superseded{fill:var(--superseded)}rect.any{fill:var(--any)}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;color:var(--dim);font-size:.86rem;
margin:.2rem 0 .6rem}
.legend i{display:inline-block;width:.75em;height:.75em;border-radius:2px;margin-right:.4em}
i.kept{background:var(--kept)}i.rejected{background:var(--rejected)}
i.superseded{background:var(--superseded)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(330px,100%),1fr));gap:.9rem;
align-items:start;margin-top:.5rem}
.card{padding:.95rem 1.05rem;min-width:0}
.card .top{display:flex;justify-content:space-between;gap:.8rem;align-items:baseline}
.small{font-size:.87rem}
.hist{margin:.8rem 0 .2rem}
.plot{position:relative;padding-top:1.35rem;border-bottom:1px solid var(--line)}
.plot svg{display:block;width:100%;height:92px}
.peak{position:absolute;left:0;top:0;color:var(--dim);font-size:.75rem;line-height:1.3rem}
.flag{position:absolute;top:0;font-size:.75rem;line-height:1.3rem;color:var(--ink);padding:0 .35em;
background:var(--card);z-index:1;font-variant-numeric:tabular-nums}
.f2{padding-top:2.45rem}.f3{padding-top:3.6rem}
line.limit{stroke:var(--ink);stroke-width:1.6;stroke-dasharray:4 3;vector-effect:non-scaling-stroke}
figcaption{display:flex;justify-content:space-between;gap:.6rem;color:var(--dim);font-size:.78rem;
font-variant-numeric:tabular-nums;margin-top:.25rem}
.axis{text-align:center}
details{margin:.45rem 0}summary{cursor:pointer;color:var(--link);font-size:.9rem}
details pre{overflow-x:auto;background:var(--wash);padding:.7rem .9rem;border-radius:8px;
font-size:.82rem;line-height:1.45;white-space:pre-wrap}
.pick{position:absolute;opacity:0;width:1px;height:1px}
.picks{display:flex;flex-wrap:wrap;gap:.4rem;margin:.3rem 0 1rem}
.picks label{border:1px solid var(--line);border-radius:99px;padding:.12rem .75rem;font-size:.86rem;
cursor:pointer;color:var(--dim)}
.picks label:hover{color:var(--ink)}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(460px,100%),1fr));gap:1rem;
align-items:start}
.photo{padding:0;overflow:hidden}
.shot{position:relative;background:var(--wash);display:flex;justify-content:center}
.shot div{position:relative;width:100%}
.shot img,.shot svg{display:block;width:100%;height:auto}
.shot svg{position:absolute;inset:0;height:100%}
.shot .none{padding:2.4rem 1rem;text-align:center;color:var(--dim)}
.shot rect{fill:none;stroke-width:2.2;vector-effect:non-scaling-stroke}
.shot rect.halo{stroke:rgba(0,0,0,.55);stroke-width:4.4}
.shot rect.kept{stroke:#27d07a}.shot rect.rejected{stroke:#ff3b4a;stroke-dasharray:7 5}
.shot text{font:600 12px system-ui,sans-serif;paint-order:stroke;stroke:rgba(0,0,0,.78);
stroke-width:3.4px;stroke-linejoin:round;unicode-bidi:isolate}
text.kept{fill:#7dfab6}text.rejected{fill:#ffb3b8}
.about{padding:.8rem 1rem .9rem}
.rows{list-style:none;margin:.35rem 0 0;padding:0;font-size:.9rem}
.rows li{padding:.22rem 0 .22rem .8rem;border-left:3px solid var(--line);margin:.3rem 0}
.rows li.kept{border-color:var(--kept)}.rows li.rejected{border-color:var(--rejected)}
.why{color:var(--dim);font-size:.92em;display:block}
footer{padding-top:2rem;padding-bottom:3rem;color:var(--dim);font-size:.86rem}
@media(max-width:600px){body{font-size:14.5px}header,main,footer{padding-left:1rem;padding-right:1rem}
header{padding-top:1.3rem}h1{font-size:1.4rem}nav div{padding-left:1rem}
.tiles{grid-template-columns:1fr 1fr}.tile b{font-size:1.25rem}
th,td{padding-right:.6rem}table{font-size:.88rem}th{font-size:.8rem}
td.bars{display:none}.shot text{font-size:15px}}
@media print{nav,.picks{display:none}.card{break-inside:avoid}}
"""

# Nothing may be fetched or run, whatever got past the escaping.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)
