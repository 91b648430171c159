"Groups against scikit-learn, gaps against paired resamples"
import numpy as np, pandas as pd, pytest
from sklearn import metrics as skm
from fundus_fastai.core import DataError
from fundus_fastai.score.estimate import TOO_FEW, so_few
from fundus_fastai.score.kinds import read_predictions
from fundus_fastai.score.scores import score
from fundus_fastai.score.subgroups import common_labels, group_columns, subgroup_scores
from made import binary, labels_table, numbers_table, points_table

def people(n=200, seed=0):
    d,rng = binary(n, seed=seed),np.random.default_rng(seed)
    who = d.patient.astype(int).to_numpy()
    return d.assign(sex=rng.choice(['f','m'], n)[who], age=rng.integers(20, 90, n)[who].astype(float), eye=rng.choice(['L','R'], len(d)))

def test_groups_like_sklearn():
    d = people()
    t = subgroup_scores(score(d, n_boot=50))[0].set_index(['by','group','metric'])
    for by,col in [('sex',d.sex),('eye',d.eye.map(dict(L='left', R='right')))]:
        for g,o in d.groupby(col):
            assert t.value[by,g,'auc']==pytest.approx(skm.roc_auc_score(o.target, o.p_yes))
            assert t.images[by,g,'auc']==len(o) and t.patients[by,g,'auc']==o.patient.nunique()

def test_grades_in_groups_like_sklearn():
    "Kappa at the cuts that were chosen and AUC of referral, of points and of probabilities, in each group"
    d = points_table()
    y,cuts,t = d.target.to_numpy(),[.2,.7,1.2,1.7],.9
    grade = (d.pred.to_numpy()[:,None]>cuts).sum(1)
    p = np.eye(5)[grade]*.6+.08
    graded = d.drop(columns='pred').assign(target=y.astype(str), **{f'p_{i}':p[:,i] for i in range(5)})
    for kind,df,op,refer in [('ordered', d, dict(cuts=cuts, threshold=t), d.pred.to_numpy()), ('grades', graded, dict(threshold=t), p[:,2:].sum(1))]:
        rows = subgroup_scores(score(df, kind, op, n_boot=20))[0].set_index(['group','metric']).value
        for side,m in dict(left=d.eye=='L', right=d.eye=='R').items():
            assert rows[side,'qwk']==pytest.approx(skm.cohen_kappa_score(y[m], grade[m], weights='quadratic'))
            assert rows[side,'referable_auc']==pytest.approx(skm.roc_auc_score(y[m]>=2, refer[m]))

def test_groups_are_those_of_the_images_that_they_name():
    "By path or index, whatever the order; in order where nothing is named; one for each"
    d = people().drop(columns=['sex','eye','age'])
    d['path'] = [f'{k}.png' for k in range(len(d))]
    site = pd.Series(np.where(np.arange(len(d))%3, 'A', 'B'), d.index)
    s = score(d, n_boot=20)
    want = subgroup_scores(s, {'site':site.to_numpy()})[0].value.to_numpy()
    mixed = d.assign(site=site).sample(frac=1, random_state=1)
    for g in (mixed.site, mixed.set_index('path').site, dict(zip(mixed.path, mixed.site)), site.tolist()):
        assert np.array_equal(subgroup_scores(s, {'site':g})[0].value.to_numpy(), want, equal_nan=True)
    for bad in (site[:9], site.tolist()[1:], {'other.png':'A'}, dict(zip(d.path[1:], site[1:]))):
        with pytest.raises(DataError, match='give one for each'): subgroup_scores(s, {'site':bad})

def test_gap_interval_is_of_paired_resamples():
    "A gap between two halves of the same answers is zero in every resample"
    d = people()
    twin = pd.concat([d.assign(eye='L'), d.assign(eye='R', path='b'+d.path)], ignore_index=True)
    g = subgroup_scores(score(twin, n_boot=50), {'eye':twin.eye})[1]
    assert g.gap.abs().max()<1e-12 and g.low.isna().all()

def test_gap_covers_nothing_where_there_is_nothing():
    "Two groups dealt by chance: the interval of their difference holds zero about 95 times in 100"
    hit = 0
    for i in range(60):
        d = people(120, seed=i)
        g = subgroup_scores(score(d, n_boot=100), {'sex':d.sex})[1].set_index('metric').loc['accuracy']
        hit += g.low<=0
    assert hit>=50 # one side of the interval counts: the gap is never negative

def test_the_largest_of_many_gaps_is_no_more_often_one_by_chance():
    "Five clinics that are alike: the interval of the largest of ten differences holds zero nearly always"
    found = []
    for i in range(40):
        d,rng = people(100, seed=i),np.random.default_rng(i)
        clinic = dict(zip(d.patient.unique(), rng.permutation(100)%5))
        g = subgroup_scores(score(d, n_boot=400), {'clinic':d.patient.map(clinic)})[1]
        g = g.set_index('metric').loc['accuracy']
        assert g.method.endswith(', of 10 pairs')
        found.append(g.low>0)
    assert np.mean(found)<.16 # it was 0.4

def test_one_ill_woman_makes_no_gap():
    "Twenty women of whom one is ill, eighty men of whom thirty are: her AUC has an interval by formula, the gap has none"
    rng,who = np.random.default_rng(0),np.arange(100)
    ill = (who==0)|(who>=20)&(who<50)
    p = 1/(1+np.exp(-rng.normal(size=100)-ill))
    d = pd.DataFrame(dict(path=who.astype(str), patient=who.astype(str), eye=None, target=np.where(ill, 'yes', 'no'), p_no=1-p, p_yes=p))
    t,gaps = subgroup_scores(score(d), {'sex':np.where(who<20, 'f', 'm')})
    how = t.set_index(['group','metric']).method
    assert how['f','auc']=='Newcombe (1 v 19 patients)' and how['m','auc']=='patient bootstrap, BCa'
    gaps = gaps.set_index('metric')
    assert gaps.method['auc']==TOO_FEW and np.isnan(gaps.low['auc']) and gaps.gap['auc']>0 and gaps.low['accuracy']==gaps.low['accuracy']

def test_small_and_one_sided_groups_have_no_number():
    d = people(60)
    g = np.where(d.patient.astype(int)<6, 'few', 'many')
    t,gaps = subgroup_scores(score(d, n_boot=30), {'clinic':g})
    assert t[t.group=='few'].value.isna().all() and (t[t.group=='few'].images>0).all() and not len(gaps)
    t = subgroup_scores(score(d, n_boot=30), {'truth':d.target})[0]
    assert (t[t.metric=='auc'].method=='undefined: one class only').all() and t[t.metric=='accuracy'].value.notna().all()

def test_unknown_groups_are_counted():
    d = people(60)
    d.loc[:9,'sex'] = None
    t = subgroup_scores(score(d, n_boot=20), {'sex':d.sex})[0]
    assert t[t.group=='not known'].images.tolist()==[10,10] and t[t.metric=='auc'].images.sum()==len(d)

def test_columns_survive_the_file(tmp_path):
    d = people(40)
    d.loc[0,'sex'],d.loc[1,'age'] = None,np.nan
    d.assign(camera='007', width=100, height=50).to_csv(tmp_path/'p.csv', index=False)
    back = read_predictions(tmp_path/'p.csv')
    assert back.camera[0]=='007' and pd.isna(back.sex[0]) and np.isnan(back.age[1]) and back.width.dtype==float
    assert list(back.columns[:6])==['path','patient','eye','target','p_no','p_yes'] and set(group_columns(back))=={'sex','age','eye'}

def test_which_groups_there_are():
    "Bands of age begin at 40, 60 and 75; the six most frequent cameras, and others; what tells the answer is no group"
    d = pd.DataFrame(dict(age=[39.9,40,59.9,60,74.9,75,np.nan,20], sex=['f']*8, eye=['L','R']*4, target=list('aabbaabb')))
    g = group_columns(d)
    assert [*g]==['age','eye'] and g['age'][:6].tolist()==['under 40','40 to 59','40 to 59','60 to 74','60 to 74','75 and over']
    assert pd.isna(g['age'][6]) and g['eye'].tolist()==['left','right']*4
    assert [*group_columns(d.assign(target=['x','y']*4))]==['age'], "which eye it is, is asked"
    assert 'eye' in group_columns(d.assign(target=['x','y']*3+['x','x'])) and 'eye' in group_columns(d.drop(columns='target'))
    cams = pd.DataFrame(dict(camera=[*'aaabbbcccdddeeefffgh', None], width=50., height=40.))
    named = group_columns(cams)['camera']
    assert [*named[:18]]==[*'aaabbbcccdddeeefff'] and named[18:20].tolist()==['other']*2 and pd.isna(named[20])
    sizes = pd.DataFrame(dict(width=[100.,100,200,np.nan,200], height=[50.,50,60,60,np.nan]))
    assert group_columns(sizes)['image size'].fillna('?').tolist()==['100 x 50','100 x 50','200 x 60','?','?']
    four = pd.DataFrame(dict(camera=list('abcd'), target=list('xxyy'))) # each camera saw one class, and does not name it
    assert 'camera' in group_columns(four)

@pytest.mark.parametrize('table', [people, labels_table, numbers_table])
@pytest.mark.parametrize('column,cells,want', [
    ('age', ['>89','60-69','?','061Y','unknown','50,5','-3','150','70',''], [None,None,None,61,None,50.5,None,None,70,None]),
    ('width', ['100','wide','','1e3','?'], [100,None,None,1000,None]), ('height', [50,'x',None], [50,None,None])])
def test_columns_that_nobody_asked_for_stop_nothing(table, column, cells, want, tmp_path, capsys):
    "They are read as far as they can be, and what cannot is counted: in memory and from a file"
    d = table(40)
    cells = (cells*len(d))[:len(d)]
    want = np.array((want*len(d))[:len(d)], float)
    d.assign(**{column:cells}).to_csv(tmp_path/'q.csv', index=False)
    for f in (lambda: score(d.assign(**{column:cells}), n_boot=5).preds, lambda: read_predictions(tmp_path/'q.csv')):
        np.testing.assert_array_equal(f()[column].to_numpy(float), want)
        assert 'left empty' in (err := capsys.readouterr().err) and f' of {len(d)} ' in err

def test_labels_are_compared_where_all_groups_have_them():
    d = people(120)
    lab = d[['path','patient','eye','sex']].assign(target_a=(d.target=='yes').astype(int), p_a=d.p_yes, p_b=.5,
                                                   target_b=((d.sex=='f')&(d.target=='yes')).astype(int))
    assert common_labels(lab, lab.sex)==['a']
    five = pd.DataFrame(dict(patient=[*'abcdefghij']*2, target_x=[*[0]*5,*[1]*5]*2)) # five patients have it, five do not
    assert common_labels(five, pd.Series(['g']*20))==['x'] and common_labels(five[five.patient!='j'], pd.Series(['g']*18))==[]
    t = subgroup_scores(score(lab, n_boot=20), {'sex':lab.sex})[0].set_index(['group','metric']).value
    for g,o in lab.groupby('sex'): assert t[g,'auc']==pytest.approx(skm.roc_auc_score(o.target_a, o.p_a))

def years(n, seed, ten):
    "Ages and answers of `n` people with one image each, and the first `ten` of them as a group"
    y,rng = np.linspace(40, 80, n),np.random.default_rng(seed)
    who = np.arange(n)
    d = pd.DataFrame(dict(path=who.astype(str), patient=who.astype(str), eye=None, target=y, pred=y+rng.normal(0, 5, n)))
    return d,np.where(who<ten, 'site A', 'site B')

def test_a_group_counts_its_own_patients():
    "Ten among 200: its interval is no narrower than that of a study of the ten alone (with all 200 for Student's t it was)"
    wide = []
    for i in range(20):
        d,g = years(200, i, 10)
        t,gaps = subgroup_scores(score(d, n_boot=400), dict(site=g))
        t,alone = t.set_index(['group','metric']).loc[('site A','mae')],score(d[:10], n_boot=400).metrics['mae']
        wide.append([t.high-t.low, alone.high-alone.low])
    a,b = np.mean(wide, 0)
    assert .98*b<a<1.2*b

def test_a_gap_counts_both_groups():
    "Ten beside 190 of the same error: their gap is one by chance in 5 of 100 studies (by all 200 in 9)"
    found = []
    for i in range(200):
        d,g = years(200, i, 10)
        gaps = subgroup_scores(score(d, n_boot=300), dict(site=g))[1].set_index('metric')
        found.append(gaps.low['mae']>0)
    assert np.mean(found)<=.065

def test_three_patients_of_many_have_no_interval():
    d,g = years(60, 0, 3)
    t,gaps = subgroup_scores(score(d, n_boot=100), dict(site=g), least=2)
    assert t.set_index(['group','metric']).method['site A','mae']==so_few(3)
