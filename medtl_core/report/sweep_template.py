"""The page of a privacy sweep as a Jinja template."""

from medtl_core.report.template import HEAD, LEAD

SWEEP_PAGE = (
    HEAD
    + LEAD
    + """
<section aria-labelledby="chance">
<h2 id="chance">Where a mechanism is at chance</h2>
<p class="note">At chance means that the 95% interval of the balanced accuracy is not above {{ chance }}, which guessing
gives: with these seeds the mechanism cannot be told from guessing.</p>
<ul>
{% for sentence in sentences %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
{% for remark in remarks %}
<p class="note">{{ remark }}</p>
{% endfor %}
</section>

{% for part in parts %}
<section aria-labelledby="{{ part.id }}">
<h2 id="{{ part.id }}">{{ part.heading }}</h2>
<p class="note">Balanced accuracy on the server's test cases over the epsilon promised to every patient; smaller is
stronger privacy. Bars: {{ interval }}. Dashed: guessing. Grey: the same cases without privacy.</p>
<figure class="wide" tabindex="0">{{ part.accuracy }}</figure>
{% for table in part.tables %}{{ show(table) }}{% endfor %}
<p class="note">{{ mark }} at chance. "Open": the server sees each hospital's own noised sum, and every hospital adds
all of the noise; the others sum securely and share it.</p>
<h3>Spent against promised</h3>
<div class="pair"><figure>{{ part.spent }}<figcaption>The most that any hospital's ledger accounts for, over all seeds.
Above the dashed line a promise would be broken.</figcaption></figure>
<div class="grow">{{ show(part.spent_table) }}</div></div>
</section>
{% endfor %}

<section aria-labelledby="terms">
<h2 id="terms">What was promised</h2>
<dl class="terms">
<div><dt>Epsilon and delta</dt><dd>Everything that a hospital sends in a run is (epsilon, delta)-differentially private
for each of its patients, with all of the patient's cases: added or removed, delta {{ delta }}. {{ spending }} Every
mechanism has a ledger of its own here, as if it ran alone: promises of several mechanisms on the same patients would
add up.</dd></div>
<div><dt>Public cases</dt><dd>The number of patients that every hospital is publicly known to have, {{ cases }} here.
Where the sweep was not told one, it is that of the smallest simulated hospital; real hospitals agree on one
first.</dd></div>
<div><dt>Not covered</dt><dd>The references without privacy promise nothing. Choosing a mechanism by looking at this
page is not private towards the patients in it: sweep on public or synthetic cases, then promise.</dd></div>
<div><dt>Interval</dt><dd>{{ interval[0]|upper }}{{ interval[1:] }}. Every seed draws other training cases and other
noise, and judges on the same test cases.</dd></div>
</dl>
</section>

<section aria-labelledby="run">
<h2 id="run">The runs</h2>
<p class="note">With these settings and versions the sweep can be repeated, up to the noise, which no seed makes.</p>
<div class="facts">
{% for table in fact_tables %}{{ show(table, words=true) }}{% endfor %}
</div>
</section>
</main>
<footer><p>Written by medtl {{ medtl_version }}. One file, nothing fetched from a network.</p></footer>
</body>
</html>
"""
)
