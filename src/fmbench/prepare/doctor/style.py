"""How the page looks: light and dark, wide and narrow. Okabe and Ito's colours."""

STYLE = """
:root{--ground:#fff;--text:#1b1b1b;--quiet:#595959;--line:#d0d0d0;--raised:#f4f4f2;--link:#00507e;
--fault:#a11616;--serious:#a34400;--warning:#7a5c00;--note:#3d5a6c;--on:#fff;
--abnormal:#b0508a;--filmed:#8a8a8a;--train:#0072b2;--val:#b87400;--test:#007a5a;
--one:#0072b2;--two:#b87400;--three:#007a5a}
@media (prefers-color-scheme:dark){:root{--ground:#161718;--text:#e8e8e6;--quiet:#a9a9a6;
--line:#3d3f41;--raised:#212325;--link:#7fc4ee;--fault:#ff8f8f;--serious:#ffab70;--warning:#e8c547;
--note:#9fc3d8;--on:#161718;--abnormal:#e39bc4;--filmed:#8d8d8d;--train:#56b4e9;--val:#e69f00;
--test:#3fc79a;--one:#56b4e9;--two:#e69f00;--three:#3fc79a}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--text);
font:16px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:1rem}
h1{font-size:1.6rem;margin:.2rem 0 .6rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2rem 0 .5rem;overflow-wrap:anywhere}
a{color:var(--link)}
.banner{border:2px solid var(--abnormal);border-radius:6px;padding:.5rem .8rem}
.quiet{color:var(--quiet);font-style:italic;margin:.2rem 0}
.summary{list-style:none;padding:0;display:grid;gap:.35rem}
.badge{display:inline-block;border-radius:4px;padding:.05rem .45rem;font-weight:600;
font-size:.85rem;color:var(--on);background:var(--note);white-space:nowrap}
.badge.fault{background:var(--fault)}.badge.serious{background:var(--serious)}
.badge.warning{background:var(--warning)}
.scroll{overflow-x:auto;max-height:85vh;overflow-y:auto;border:1px solid var(--line);
border-radius:6px;margin:.5rem 0 1rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;padding:.4rem .6rem;color:var(--quiet);font-size:.85rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-top:1px solid var(--line)}
thead th{background:var(--raised);position:sticky;top:0;white-space:nowrap}
tbody th{font-weight:600}
td.text{min-width:17rem}
.name{min-width:9rem;overflow-wrap:anywhere}
.when{min-width:6.5rem}.part{white-space:nowrap}
.offset{min-width:9rem}
thead th.number,.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
svg{display:block;width:100%}
svg.histogram{width:96px;height:24px}
.bars{fill:var(--text)}
section{border-top:1px solid var(--line);margin-top:1.5rem}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(84px,1fr));gap:.5rem}
figure{margin:0}
figure img{display:block;width:100%;height:auto;border:3px solid transparent;border-radius:4px;
background:var(--raised)}
figure.abnormal img{border-color:var(--abnormal)}
figcaption{font-size:.75rem;line-height:1.25;color:var(--quiet);overflow-wrap:anywhere}
.time{display:grid;grid-template-columns:7.2rem 1fr;gap:.3rem .6rem;align-items:center;
margin-top:.8rem;font-size:.8rem}
.time span{overflow-wrap:anywhere}
.wide{grid-column:1/-1;margin:0}
svg.trace{height:52px;background:var(--raised)}
svg.lane{height:14px;background:var(--raised)}
.phase1{fill:var(--one)}.phase2{fill:var(--two)}.phase3{fill:var(--three)}
.filmed{fill:var(--filmed)}path.abnormal{fill:var(--abnormal)}
.train{fill:var(--train)}.val{fill:var(--val)}.test{fill:var(--test)}
.axis{display:flex;justify-content:space-between;gap:1rem;color:var(--quiet);
font-variant-numeric:tabular-nums}
@media (max-width:520px){main{padding:.6rem}.time{grid-template-columns:5.2rem 1fr}
.time,figcaption{font-size:.72rem}td.text{min-width:13rem}}
@media print{.scroll{max-height:none;overflow:visible}}
"""
