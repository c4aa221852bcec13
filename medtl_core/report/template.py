"""The report page as a Jinja template; it travels as Python source because an app bundle carries no HTML."""

#: A table, and the head of every page.
HEAD = """{% macro show(table, words=false) %}
<div class="scroll" tabindex="0"><table{% if words %} class="words"{% endif %}>
<caption>{{ table.caption }}</caption>
<thead><tr>{% for heading in table.headings %}<th scope="col">{{ heading }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr{% if row.style %} class="{{ row.style }}"{% endif %}><th scope="row">{{ row.name }}</th>
{%- for cell in row.cells %}
<td>{{ cell.value }}{% if cell.note %}<small>{{ cell.note }}</small>{% endif %}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="medtl">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>{{ css }}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the results</a>
<header>
<h1>{{ title }}</h1>
<p class="sub">{{ subtitle }}</p>
{% if synthetic %}
<p class="banner" role="note"><strong>Synthetic data.</strong> Every case of this run was made by a program.
The figures show that the software works; they say nothing about patients.</p>
{% endif %}
<p class="research"><strong>Research software, not a medical device.</strong>
Nothing here may guide the care of a patient.</p>
</header>
"""

#: What every page says first: a sentence and a few figures.
LEAD = """<main id="main">
<p class="lead">{{ lead }}</p>
<dl class="tiles">
{% for tile in tiles %}
<div><dt>{{ tile.name }}</dt><dd>{{ tile.value }}<small>{{ tile.note }}</small></dd></div>
{% endfor %}
</dl>
"""

PAGE = (
    HEAD
    + LEAD
    + """
<section aria-labelledby="methods">
<h2 id="methods">Methods compared</h2>
<p class="note">All methods read the same features and {{ judged }}.
{{ interval_note }} Hollow grey dots are yardsticks: <em>local</em> is each hospital training alone,
<em>pooled</em> is what moving all cases to one place would give.</p>
<figure class="wide" tabindex="0">{{ plots.comparison }}</figure>
{% for table in method_tables %}{{ show(table) }}{% endfor %}
</section>

{% if plots.roc or plots.sites %}
<section aria-labelledby="sites">
<h2 id="sites">By site</h2>
<p class="note">{{ sites_note }}</p>
{% if plots.roc %}
<figure class="wide" tabindex="0">{{ plots.roc }}
<figcaption>ROC curves of <strong>{{ focus }}</strong>, averaged over the classes (one against the rest).
Across: false positive rate; up: true positive rate. Grey: all sites together. Dashed: guessing.</figcaption></figure>
{% endif %}
{% if plots.sites %}
<h3>Balanced accuracy</h3>
<figure class="wide" tabindex="0">{{ plots.sites }}</figure>
{{ show(site_table) }}
{% endif %}
</section>
{% endif %}

{% if plots.reliability %}
<section aria-labelledby="calibration">
<h2 id="calibration">Calibration</h2>
<p class="note">Does a stated confidence of 80% mean right in 8 cases out of 10? On the dashed line it does;
below it the model is too sure of itself.</p>
<div class="pair"><figure>{{ plots.reliability }}<figcaption><strong>{{ focus }}</strong></figcaption></figure>
<div class="grow">{{ show(reliability_table) }}</div></div>
</section>
{% endif %}

{% if others %}
<section class="extra" aria-labelledby="others">
<h2 id="others">The other methods</h2>
<p class="note">The same curves for every method, so that no choice is hidden.</p>
{% for other in others %}
<details><summary>{{ other.name }}</summary>
{% if other.roc %}<figure class="wide" tabindex="0">{{ other.roc }}</figure>{% endif %}
{% if other.reliability %}<figure>{{ other.reliability }}</figure>{% endif %}
</details>
{% endfor %}
</section>
{% endif %}

{% if plots.rounds %}
<section aria-labelledby="rounds">
<h2 id="rounds">What was sent, and how long it took</h2>
<p class="note">Every exchange of the run in order, over all hospitals{{ seeds_note }}.
Only model parameters and sums travel; images and labels stay where they are.</p>
<figure class="wide" tabindex="0">{{ plots.rounds }}</figure>
{{ show(phase_table) }}
<details><summary>Every exchange as a table</summary>{{ show(exchange_table) }}</details>
</section>
{% endif %}

{% if failure_table.rows %}
<section aria-labelledby="failures">
<h2 id="failures">Hospitals that did not answer</h2>
{{ show(failure_table, words=true) }}
</section>
{% endif %}

<section aria-labelledby="run">
<h2 id="run">The run</h2>
<p class="note">With these settings and versions the run can be repeated.</p>
<div class="facts">
{% for table in fact_tables %}{{ show(table, words=true) }}{% endfor %}
</div>
</section>

<section aria-labelledby="terms">
<h2 id="terms">How to read the figures</h2>
<dl class="terms">
<div><dt>Balanced accuracy</dt><dd>The mean over the classes of the share of that class's cases found.
Guessing gives {{ chance }} here, however common a class is.</dd></div>
<div><dt>AUROC, AUPRC</dt><dd>How well the cases of a class are ranked before the others: the area under the ROC
curve (0.5 = no better than chance) and under the precision-recall curve, averaged over the classes.</dd></div>
<div><dt>Calibration error (ECE), Brier score</dt><dd>How far stated confidences are from the observed shares, and
the mean squared error of the stated probabilities. Lower is better.</dd></div>
<div><dt>Worst site</dt><dd>The balanced accuracy at the site where it is lowest, among sites with at least two
classes.</dd></div>
<div><dt>Interval</dt><dd>{{ interval_words }}</dd></div>
<div><dt>{{ undefined }}</dt><dd>Not defined, for instance an AUROC where only one class is present. It is never
replaced by 0.5.</dd></div>
</dl>
</section>
</main>
<footer><p>Written by medtl {{ medtl_version }}. One file, nothing fetched from a network.</p></footer>
</body>
</html>
"""
)
