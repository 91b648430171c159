"What answers say: people of known skill, clusters that are clusters, sides that cannot be compared"
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest
from scipy import stats
from quizzes import squares
from fundus_fastai.cli import main
from fundus_fastai.quiz.game import Quiz
pytest.importorskip('statsmodels', reason="statsmodels is not installed: pip install 'fundus_fastai[stats]'")
from fundus_fastai.quiz.results import (agreement_rows, answer_rows, first_tests, group_table, odds_ratio, person_table, planned_power, quiz_power,
                                        signal, simulated, sureness, sureness_picture)
from fundus_fastai.quiz import results
from fundus_fastai.score.calibration import ece

def test_known_skills_are_told_apart_and_equal_ones_are_not():
    "Ten and ten people of .85 and .65, nearly always; of one skill, hardly ever"
    far,same = quiz_power(10, .85, .65, times=15),quiz_power(8, .75, .75, times=25, seed=2)
    assert far['found']>.8 and planned_power(10, .85, .65)>.95 and same['found']<=.16, (far,same)
    assert planned_power(4, .85, .7)<planned_power(10, .85, .7)<planned_power(10, .85, .7, n=200) and np.isclose(planned_power(9, .7, .7), .05)

def test_answers_of_a_person_belong_together():
    "Four people of very different skill in each group: taken one by one their answers prove what the people do not"
    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(8), 100)
    share = np.array([.95,.95,.6,.7, .9,.5,.55,.6])[who]
    y,x = (rng.random(800)<share)*1,who<4
    naive = stats.fisher_exact(pd.crosstab(x, y))[1]
    ours = odds_ratio(y, x, who)
    assert naive<1e-4 and ours['p']>.05 and ours['low']<1<ours['high'] and ours['people']==8
    by_person = stats.ttest_ind(*(pd.Series(y).groupby(who).mean()[o] for o in (slice(0,3),slice(4,7)))).pvalue
    assert by_person>.02, "as a plain test on the eight scores says"

def test_odds_ratio_of_equal_people_is_that_of_the_table():
    y,x = np.r_[[1]*60,[0]*20,[1]*40,[0]*40],np.repeat([1,0], 80)
    who = np.r_[np.tile(np.arange(8), 10),np.tile(np.arange(8,16), 10)]
    assert np.isclose(odds_ratio(y, x, who)['odds_ratio'], 3, rtol=.03)
    assert odds_ratio(y[:20], x[:20], who[:20])['why'] and np.isnan(odds_ratio(y[:20], x[:20], who[:20])['p'])

def test_three_experts_among_many_laymen_are_three():
    "With degrees of freedom by all people 10 of 100 quizzes in which all are alike told the groups apart; by Welch's 3 do"
    rng,who = np.random.default_rng(2),np.repeat(np.arange(33), 20)
    o = odds_ratio(rng.random(660)<rng.uniform(.5, .8, 33)[who], who<3, who)
    df = (1/3+1/30)**2/(1/(9*2)+1/(900*29))
    se = np.log(o['high']/o['low'])/2/stats.t.ppf(.975, df)
    assert df<3 and o['p']==pytest.approx(2*stats.t.sf(abs(np.log(o['odds_ratio']))/se, df))

def test_the_net_answers_an_eye_once():
    "Twenty people as good as the net on eyes that many share: more people make no winner, since the net's answers are the same ones again"
    found,alone = [],[]
    for k in range(40):
        t = first_tests(simulated(dict(layman=(20,.815)), seed=k), 50)
        both = np.r_[t.right,t.ai_right],np.repeat([1,0], len(t)),np.r_[t.who,t.who]
        found.append(group_table(t, t).set_index('comparison').p['people against the net']<.05)
        alone.append(odds_ratio(*both)['p']<.05)
    assert sum(found)<=4 and sum(alone)>=8, (sum(found),sum(alone))
    assert odds_ratio(*both, eye=np.arange(2*len(t))%3)['why']=='fewer than four eyes'

def test_one_expert_is_no_group():
    "An odds ratio of people needs three on either side, and some on both"
    for n,why in ((0,'all answers are of one side'), (1,'fewer than three people on a side'), (2,'fewer than three people on a side'), (3,'')):
        df = simulated(dict(expert=(n,.75), layman=(9-n,.75)), seed=3)
        o = group_table(df, first_tests(df, 50)).set_index('comparison')
        assert o.why['experts against laymen']==why and np.isnan(o.p['experts against laymen'])==bool(why) and not o.why['people against the net']

def test_learning_is_seen_and_not_where_there_is_none():
    up,flat = (simulated(dict(expert=(15,.7), layman=(15,.7)), seed=4, learn=k) for k in (2.,0.))
    for df,there in ((up,True), (flat,False)):
        g = group_table(df, first_tests(df, 50)).set_index('comparison').loc['ten eyes of training']
        assert (g.low>1)==there and g.odds_ratio>.9

def test_signal_detection_by_hand():
    truth = ['a']*50+['b']*50
    answer = ['a']*40+['b']*10+['b']*45+['a']*5
    hit,false = 45.5/51,10.5/51
    assert np.allclose(signal(answer, truth, ['a','b']), [stats.norm.ppf(hit)-stats.norm.ppf(false), -(stats.norm.ppf(hit)+stats.norm.ppf(false))/2])

def test_a_person_by_hand():
    "Wilson's interval, the net on the same eyes, McNemar's exact p and Holm's of all, as scipy and statsmodels have them"
    from statsmodels.stats.multitest import multipletests
    t = first_tests(simulated(dict(expert=(3,.9), layman=(3,.5)), seed=2), 50)
    t['seconds'] = np.random.default_rng(0).exponential(size=len(t))
    table = person_table(t)
    assert table.right.is_monotonic_decreasing and np.allclose(table.p_holm, multipletests(table.p, method='holm')[1])
    for r in table.itertuples():
        d = t[t.who==r.who]
        mine,nets = (d.right>d.ai_right).sum(),(d.right<d.ai_right).sum()
        assert (r.role,r.answers,r.right,r.net)==(d.role.iloc[0],50,d.right.mean(),d.ai_right.mean())
        assert (r.low,r.high)==pytest.approx(tuple(stats.binomtest(int(d.right.sum()), 50).proportion_ci(method='wilson')))
        assert r.difference==pytest.approx(r.right-r.net) and r.p==pytest.approx(stats.binomtest(int(mine), int(mine+nets)).pvalue)
        assert (r.d_prime,r.criterion)==pytest.approx(signal(d.answer, d.truth, ['0','1'])) and r.seconds==d.seconds.median()

def test_errors_that_go_together():
    "Phi squared is chi squared of the table of errors over its number"
    t = first_tests(simulated(dict(layman=(6,.7)), seed=5), 50)
    phi = agreement_rows(t).set_index('what').value['phi of errors, people and net']
    chi = stats.chi2_contingency(pd.crosstab(t.right, t.ai_right), correction=False).statistic
    assert phi**2==pytest.approx(chi/len(t)) and phi>0

@pytest.mark.parametrize('m', (2, 6, 20))
@pytest.mark.parametrize('a,b,n,spread', [(.8,.7,50,.4), (.7,.8,20,.8), (.75,.75,50,.4)])
def test_power_on_paper_like_statsmodels(m, a, b, n, spread):
    "By a noncentral t; a central one that is moved gave .06 for two people a side where .10 is right"
    from statsmodels.stats.power import TTestIndPower
    sd = np.sqrt(sum(s*(1-s)/n+(spread*s*(1-s))**2 for s in (a,b))/2)
    assert planned_power(m, a, b, n=n, spread=spread)==pytest.approx(TTestIndPower().power((a-b)/sd, m, .05), abs=1e-9)

def test_power_on_paper_of_what_cannot_be_missed(): # where scipy's noncentral t has no lower tail, and statsmodels no answer
    assert planned_power(30, .9, .5)==planned_power(300, .9, .5, n=500)==1

def test_simulated_power_counts_what_is_found(monkeypatch):
    p = iter([.04,.06,.049,.07,.001,.9,.5,.6])
    monkeypatch.setattr(results, 'odds_ratio', lambda *args: dict(p=next(p)))
    o = quiz_power(3, .8, .7, n=10, times=8)
    assert o['found']==3/8 and (o['low'],o['high'])==pytest.approx(stats.binomtest(3, 8).proportion_ci(method='wilson'))

def test_what_is_said_of_a_quiz():
    "Every comparison with its numbers, or why there are none; of maps, thresholds and a sure pool only where there were some"
    df = simulated(dict(expert=(4,.9), layman=(4,.6)), seed=1)
    t = first_tests(df, 50)
    g = group_table(df, t)
    assert g.comparison.tolist()==['experts against laymen','people against the net','experts against the net','laymen against the net','ten eyes of training']
    def words(g=g, **more): return results.result_words(SimpleNamespace(told=dict(n=50, how='random', until='2030-01-01')|more), df, t, groups=g)
    plain = words()
    for o in g.itertuples(): assert f'{o.comparison}: odds ratio {o.odds_ratio:.2f} ({o.low:.2f} to {o.high:.2f}), p = {o.p:.3g}.' in plain
    for said,more in (('has been their teacher', dict(maps=True)), ('from 30.0 % on', dict(cut=.3)), ('answers right: no comparison', dict(how='confident'))):
        assert not any(said in o for o in plain) and any(said in o for o in words(**more))
    one = t[t.group=='layman']
    g = group_table(df[df.group=='layman'], one)
    assert g.comparison.tolist()==['experts against laymen','people against the net','ten eyes of training'], "one group is the people"
    assert 'experts against laymen: no estimate, all answers are of one side.' in words(g) and not g.why[1], "four people are enough"

def test_calibration_by_chance_is_of_the_same_bins():
    "As the error of answers that come true as often as they are said to, drawn 2000 times"
    t = first_tests(simulated(dict(layman=(1,.75)), seed=1), 50)
    p,rng = t.sure.to_numpy(float),np.random.default_rng(0)
    want = np.mean([ece((rng.random(len(p))<p)*1, p, bins=6) for _ in range(2000)])
    assert sureness(t).set_index('who').ece_by_chance['people']==pytest.approx(want, rel=.04)

def test_agreement_and_sureness():
    t = first_tests(simulated(dict(expert=(4,.9), layman=(4,.6)), seed=1), 50)
    a = agreement_rows(t).set_index('what')
    common = t[t.groupby('item').who.transform('nunique')==8]
    from statsmodels.stats.inter_rater import fleiss_kappa
    assert a.eyes.iloc[0]==20 and np.isclose(a.value.iloc[0], fleiss_kappa(pd.crosstab(common['item'], common.answer).to_numpy()))
    s = sureness(t.assign(sure=1., right=1)).set_index('who')
    assert s.brier['people'].value==0 and s.said['people']==1
    assert len(person_table(t))==8 and person_table(t).p_holm.ge(person_table(t).p-1e-12).all()

def test_people_who_are_as_sure_as_they_may_be():
    "Their calibration error lies inside its interval, beside what chance alone makes of it; a band of a curve is by people"
    for k in range(4):
        t,rng = first_tests(simulated(dict(layman=(20,.75)), seed=k), 50),np.random.default_rng(k)
        sure = rng.uniform(.5, 1, len(t))
        s = sureness(t.assign(sure=sure, right=(rng.random(len(t))<sure)*1)).set_index('who')
        e = s.ece['people']
        assert e.low<=e.value<=e.high and e.method.endswith('reflected') and 0<s.ece_by_chance['people']<.03
        assert s.brier['people'].low<s.brier['people'].value<s.brier['people'].high
    seen = {}
    with pytest.MonkeyPatch.context() as m:
        m.setattr(results, 'drawn', lambda f, size, curves, **k: seen.update(curves))
        sureness_picture(t)
    assert (seen['people'].patients<=20).all() and (seen['people'].images>20).any()

def test_a_vote_is_the_most_frequent_answer():
    "of any number of classes; of two as frequent it is none"
    def table(answers): return pd.DataFrame([dict(who=str(k), item=i, answer=a, right=int(a=='a'), ai_right=1)
                                             for i in range(4) for k,a in enumerate(answers)])
    def vote(answers): return agreement_rows(table(answers)).set_index('what').value['right by the vote of all people']
    assert [vote(o) for o in ('aabcd','abbcd','aabb','aaab')]==[1,0,0,1]

def test_the_report_of_a_quiz(tmp_path, capsys, monkeypatch):
    "First tests and first training alone count; those who stopped are told; the bias of the sure pool is said"
    quiz,rng = squares(tmp_path, 4, items=100, how='confident', maps=True, cut=.3),np.random.default_rng(0)
    for k in range(6):
        me = quiz.who(quiz.join(dict(consent='yes', role='optometrist' if k<3 else 'layman', nick=f'Zaphod{k}')))
        for again in range(2 if k==0 else 1):
            if again: quiz.again(me)
            while not (q := quiz.at(me['id']))['done'] and not (k==5 and q['n']==6):
                truth = quiz.items[q['item']]['truth']
                quiz.answer(me['id'], q|dict(answer=truth if rng.random()<.8 else dict(ill='well', well='ill')[truth], confidence=80))
    quiz.join(dict(consent='yes', role='layman')) # and leaves before the first answer
    df = answer_rows(quiz)
    quiz.close()
    told,write = {},results.write_findings
    monkeypatch.setattr(results, 'write_findings', lambda *args, **k: write(*args, **k|dict(tables=told.setdefault('tables', list(k['tables'])))))
    assert len(df)==8*6+6 and len(first_tests(df, 4))==20 and set(df.group)=={'expert','layman'}
    assert main(['quiz-results', quiz.file, '--out', tmp_path/'out'])==0
    page,(out,err) = (tmp_path/'out/report.html').read_text(),capsys.readouterr()
    assert 'PHANTOM' in err, "a table of phantoms was printed as any other"
    train = dict(told['tables'])['Training, by ten eyes']
    assert train.answers.sum()==6*4<(df.phase=='train').sum() and train['up to eye'].tolist()==[4], "of four, and not of ten"
    assert '2 of 7 people have not finished' in page and 'no comparison with it means anything' in page and 'PHANTOM' in page and 'report.html' in out
    assert 'by GEE' in page and 'against the net for each eye too' in page and 'McNemar' in page and all(f'<h2>{o}' in page for o in ('Comparisons','Agreement','Training, by ten eyes'))
    assert 'shown where the net looked' in page and 'says yes from 30.0 % on' in page
    assert not any(o in page+(tmp_path/'out/answers.csv').read_text() for o in ('Zaphod','MRN1.png')), "neither nicks nor files"
    def there(): return {o.name:o.read_bytes() for o in (tmp_path/'out').iterdir()}
    before = there()
    with monkeypatch.context() as m:
        def stop(*args, **kwargs): raise KeyboardInterrupt
        m.setattr(results, 'write_findings', stop)
        assert main(['quiz-results', quiz.file, '--out', tmp_path/'out', '--force'])==130
    assert there()==before, "the earlier one, whole, until the new one is"
    assert main(['quiz-results', quiz.file, '--out', tmp_path/'out'])==1 and main(['quiz-results', quiz.file, '--out', tmp_path/'out', '--force'])==0

def test_the_net_has_one_answer_an_eye():
    "Twenty people who saw the same eyes tell no more of the net than one: its Brier score has an interval by eyes that holds the truth"
    held = []
    for k in range(30):
        t,rng = first_tests(simulated(dict(layman=(10,.75)), seed=k), 50),np.random.default_rng(k)
        sure = pd.Series({o:rng.uniform(.6, 1) for o in t['item'].unique()})
        right = (rng.random(len(sure))<sure).astype(int)
        s = sureness(t.assign(ai_sure=t['item'].map(sure), ai_right=t['item'].map(right))).set_index('who')
        assert s.answers['net']==t['item'].nunique()
        held.append(s.brier['net'].low<=.1467<=s.brier['net'].high) # the mean of p (1-p) from .6 to 1
    assert np.mean(held)>.85 # it was .4
