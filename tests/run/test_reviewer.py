"What a reviewer does: numbers computed again from predictions.csv with none of our code, and looked for in the report as it is read"
import csv
from html.parser import HTMLParser
import numpy as np, pandas as pd, pytest
from scipy.stats import norm, t as student
from fundus_fastai.options import DataOptions, TrainOptions
from fundus_fastai.run.report import write_report
from fundus_fastai.run.train import train_run
from fundus_fastai.score.kinds import get_kind
from fundus_fastai.score.patients import score_as

class Rows(HTMLParser):
    "The rows of all tables, as lists of their cells' words"
    def __init__(self, html):
        super().__init__()
        self.rows,self.inside = [],False
        self.feed(html)
    def handle_starttag(self, tag, attrs):
        if tag=='tr': self.rows.append([])
        if tag in ('td','th'): self.rows[-1].append(''); self.inside = True
    def handle_endtag(self, tag):
        if tag in ('td','th'): self.inside = False
    def handle_data(self, data):
        if self.inside: self.rows[-1][-1] += data.strip()

def read(out):
    "The rows of predictions.csv, and the rows of the report's tables by their first cell"
    with open(out/'predictions.csv', encoding='utf-8', newline='') as f: table = list(csv.DictReader(f))
    return table,{o[0]:o[1:] for o in Rows((out/'report.html').read_text(encoding='utf-8')).rows if o}

@pytest.fixture(scope='module')
def two_classes(tmp_path_factory):
    out = tmp_path_factory.mktemp('two')/'run'
    return out,*trained('anomaly', out)

def trained(task, out):
    opts = TrainOptions(arch='test_efficientnet', weights='none', size=32, fit='tune', epochs=1, freeze_epochs=0, bs=8, workers=0)
    train_run(task, DataOptions('phantom', patients=60), opts, maps=0, out=out)
    return read(out)

def column(table, name, f=float): return np.array([f(o[name]) for o in table])

def resampled(metric, who, *arrays, n=2000, on=None):
    "BCa ends (Efron and Tibshirani 1993, chapter 14) of the metric when patients are drawn with replacement, by Student's t of `on` of them"
    rng,groups = np.random.default_rng(11),[np.flatnonzero(who==o) for o in np.unique(who)]
    def told(part): return metric(*(a[np.concatenate(part)] for a in arrays))
    drawn = np.array([told([groups[i] for i in rng.integers(len(groups), size=len(groups))]) for _ in range(n)])
    drawn,value = drawn[~np.isnan(drawn)],metric(*arrays)
    z0 = norm.ppf(np.clip((drawn<value-1e-9).mean()+(abs(drawn-value)<1e-9).mean()/2, 1e-3, 1-1e-3))
    left = np.array([told(groups[:i]+groups[i+1:]) for i in range(len(groups))])
    off,on = np.nanmean(left)-left[~np.isnan(left)],on or len(groups)
    a = (off**3).sum()/(6*(off**2).sum()**1.5)
    z = z0+np.array([-1,1])*student.ppf(.975, on-1)*(on/(on-1))**.5
    return np.quantile(drawn, norm.cdf(z0+z/(1-a*z)))

def two_sides(y, who):
    "Welch's degrees of freedom, and one more, of so many patients on either side who scatter alike"
    m,n = (len({*who[o]}) for o in (y,~y))
    return 1+(1/m+1/n)**2/(1/m**2/(m-1)+1/n**2/(n-1))

def agrees(cells, value, interval=None):
    "The report's value to its last digit, its interval but for the luck of resampling"
    assert float(cells[0].split()[0])==pytest.approx(value, abs=.00051)
    if interval is not None:
        low,high = map(float, cells[1].split(' to '))
        assert (low,high)==pytest.approx(tuple(interval), abs=.15*(high-low))

def pairs(y, p):
    "How often a positive has the higher score, ties by half (Mann and Whitney)"
    d = p[y][:,None]-p[~y]
    return ((d>0)+.5*(d==0)).mean() if d.size else np.nan

def kappa(y, g, k=5):
    o,e = np.zeros((k,k)),(np.arange(k)[:,None]-np.arange(k))**2
    np.add.at(o, (y,g), 1)
    return 1-(e*o).sum()/(e*np.outer(o.sum(1), o.sum(0))/len(y)).sum()

def test_numbers_of_two_classes(two_classes):
    _,table,told = two_classes
    y,p,who = column(table, 'target', str)=='abnormal',column(table, 'p_abnormal'),column(table, 'patient', str)
    yes = p>.5
    def accuracy(y, yes): return (yes==y).mean()
    few = min(len({*who[y]}), len({*who[~y]}))<5
    agrees(told['AUC'], pairs(y, p), None if few else resampled(pairs, who, y, p, on=two_sides(y, who)))
    assert few==('Newcombe' in ' '.join(told['AUC'])), told['AUC']
    agrees(told['accuracy'], accuracy(y, yes), resampled(accuracy, who, y, yes))
    agrees(told['sensitivity abnormal'], yes[y].mean())
    agrees(told['specificity abnormal'], (~yes[~y]).mean())
    agrees(told['Brier score'], ((p-y)**2).mean())
    f1 = [2*(t&g).sum()/(t.sum()+g.sum()) for t,g in ((y,yes),(~y,~yes))]
    agrees(told['macro F1'], np.mean(f1))
    assert len(set(p))==len(p)
    order = np.argsort(-p)
    precision = np.cumsum(y[order])/np.arange(1, len(y)+1)
    agrees(told['average precision'], precision[y[order]].mean())

def test_numbers_at_a_threshold(two_classes):
    "What the report says of an operating point is what its threshold does to the probabilities of the ill class"
    out,table,_ = two_classes
    y,p = column(table, 'target', str)=='abnormal',column(table, 'p_abnormal')
    rows = [o for o in Rows((out/'report.html').read_text(encoding='utf-8')).rows if o[:1]==['abnormal']]
    points = {o[1]:o[2:] for o in rows if len(o)==5}
    worth = {o[1]:o[2:] for o in rows if len(o)==9}
    assert {'sensitivity 90 %','specificity 90 %'} <= points.keys()==worth.keys()
    for k,(threshold,sensitivity,specificity) in points.items():
        yes = p>=float(threshold)
        assert abs(p-float(threshold)).min()>.0006 # three digits tell the same images apart
        for cell,v in zip((sensitivity,specificity), (yes[y].mean(), (~yes[~y]).mean())): assert first(cell)==round(100*v)
        assert first(worth[k][0])==round(100*y.mean())
        if yes.any(): assert first(worth[k][1])==round(100*y[yes].mean())

def first(cell): return int(cell.replace('%', ' ').split()[0])

def test_numbers_of_ages(tmp_path):
    table,told = trained('age', tmp_path/'r')
    y,p,who = column(table, 'target'),column(table, 'pred'),column(table, 'patient', str)
    def mae(y, p): return abs(y-p).mean()
    agrees(told['mean absolute error'], mae(y, p), resampled(mae, who, y, p))
    agrees(told['R²'], 1-((y-p)**2).sum()/((y-y.mean())**2).sum())

def test_numbers_of_grades(tmp_path):
    rng = np.random.default_rng(3)
    def answers(n=240):
        y = rng.integers(0, 5, n//2).repeat(2)
        z = np.exp(-abs(np.arange(5)-(y+rng.normal(0, .8, n))[:,None]))
        return pd.DataFrame(dict(path=[f'{i}.png' for i in range(n)], patient=(np.arange(n)//2).astype(str), eye=['L','R']*(n//2),
            target=y.astype(str), **{f'p_{k}':o for k,o in enumerate((z/z.sum(1, keepdims=True)).T)}))
    valid = answers()
    s = score_as('grades', answers(), get_kind('grades').choose(valid), valid=valid, n_boot=1000, task='dr', source='phantom', arch='x')
    s.save(tmp_path)
    write_report(tmp_path, s)
    table,told = read(tmp_path)
    y,who = column(table, 'target', int),column(table, 'patient', str)
    p = np.array([[float(o[f'p_{k}']) for k in range(5)] for o in table])
    agrees(told['quadratic kappa'], kappa(y, p.argmax(1)), resampled(kappa, who, y, p.argmax(1)))
    agrees(told['AUC of referral'], pairs(y>=2, p[:,2:].sum(1)), resampled(pairs, who, y>=2, p[:,2:].sum(1), on=two_sides(y>=2, who)))
