"A number of any unit: refraction in diopters, logMAR, micrometers, ages; bands, digits and units that fit"
import numpy as np, pandas as pd, pytest
from matplotlib.figure import Figure
from sklearn import metrics as skm
from fundus_fastai.core import DataError
from fundus_fastai.score.kinds import digits_of, error_by_band, get_kind, number_bands, step_of
from fundus_fastai.score.plots import plot_agreement, plot_numbers
from fundus_fastai.score.scores import is_share, score

NUMBER = get_kind('number')
ranges = dict(refraction=(-9,6), logmar=(-.2,1.3), micrometers=(180,420), meters=(2e-4,4e-4), ages=(20,90), below=(-9,-2))

def table(what, n=120, seed=0):
    rng = np.random.default_rng(seed)
    lo,hi = ranges[what]
    y = rng.uniform(lo, hi, n//2).repeat(2)
    return pd.DataFrame(dict(path=[f'{i}.png' for i in range(n)], patient=np.arange(n)//2, target=y,
                             pred=y+rng.normal(0, (hi-lo)/10, n))).assign(patient=lambda d: d.patient.astype(str), eye=None)

@pytest.mark.parametrize('what', ranges)
def test_any_quantity_is_scored(what):
    d = table(what)
    op = NUMBER.choose(d) | dict(unit='D')
    s = score(d, None, op, n_boot=20)
    assert s.metrics['mae'].value==pytest.approx(skm.mean_absolute_error(d.target, d.pred)) and s.metrics['mae'].unit=='D'
    assert s.metrics['r2'].value==pytest.approx(skm.r2_score(d.target, d.pred)) and s.metrics['r2'].unit==''
    assert s.counts.images.sum()==len(d)
    t = s.tables['Error and bias by band, in D']
    assert t['images'].sum()==len(d) and 2<=len(t)<=11 and t.band.tolist()==s.counts['class'].tolist()
    for b,e in zip(t.band, t.error): # each band holds what it says, in order
        at = d[number_bands(d.target)[0]==b]
        assert float(e.split(' ')[0])==pytest.approx((at.pred-at.target).abs().mean(), abs=.51*10.**-digits_of(d.target))
    first = [d.target[number_bands(d.target)[0]==b].min() for b in t.band]
    assert first==sorted(first)
    told = NUMBER.decode(d, op)
    assert (told.astype(float)-d.pred).abs().max()<=(ranges[what][1]-ranges[what][0])/100
    assert len(NUMBER.worst(d, 3).said) and len(NUMBER.reads(d))==len(d)
    for f in (plot_numbers, plot_agreement): f(s, Figure().subplots())

def test_bands_say_what_they_hold():
    assert number_bands([-3.2,-1,0,.5,4.9])[1]==['-4 to -3','-1 to 0','0 to 1','4 to 5']
    assert number_bands([20,29,30,75])[0].tolist()==['20-29','20-29','30-39','70-79']
    assert number_bands([.1,.2,.3,1.])[0].tolist()==['0.1 to 0.2','0.2 to 0.3','0.3 to 0.4','1 to 1.1']
    assert number_bands([5,5])[1]==['0-9'] and number_bands([100,20])[1]==['20-29','100-109']

def test_digits_and_steps():
    assert [digits_of([0,o]) for o in (70,240,15,1.5,.002)]==[1,1,2,3,5] and digits_of([4,4])==1
    assert [step_of([0,o]) for o in (70,240,15,1.5)]==[10,50,2,.2]

def test_units_are_never_guessed():
    "Years only where a run says so: by its task now, or as runs of before meant it"
    d = table('refraction')
    assert score(d, n_boot=5).metrics['mae'].unit=='' and score(d, n_boot=5).classes==['number']
    assert score(table('ages'), None, dict(guess=50.), n_boot=5).metrics['mae'].unit=='years'
    assert score(table('ages'), None, NUMBER.choose(d) | dict(unit='years'), n_boot=5).metrics['mae_gain'].unit=='years'

def test_bars_are_for_shares():
    assert is_share('auc') and is_share('average_precision') and not any(map(is_share, ('brier','ece','mae','temperature')))

def test_error_by_band_takes_a_step():
    for step in (-2, 0, 'ten', float('nan')):
        with pytest.raises(DataError, match='`step` is to be'): error_by_band(table('ages'), step, n_boot=5)
    assert error_by_band(table('ages'), 20, n_boot=5).band.tolist()==['20-39','40-59','60-79','80-99']
