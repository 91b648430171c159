"Exploration: what the notebook cannot say"
import warnings
import matplotlib.pyplot as plt, numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from fundus_fastai.core import DataError
from fundus_fastai.data.audit import audit
from fundus_fastai.data.explore import (color_histograms, each, explore, field_pixels, groups_of, label_combinations,
    label_counts, label_matrix, mean_eye, one_a_patient, plot_combinations, plot_color_histograms, plot_mean_eye,
    plot_montage, plot_pyramid)

@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close('all')

def table(bits, patients=None, **kwargs):
    "A frame with labels A, B, ... from rows of bits"
    n = len(bits)
    df = pd.DataFrame(bits, columns=list('ABCDEFGH')[:len(bits[0])])
    df.insert(0, 'path', [f'/none/{i}.png' for i in range(n)]); df.insert(1, 'patient', patients or [f'p{i}' for i in range(n)])
    df = df.assign(eye=None, split=None, **kwargs)
    df.attrs.update(labels=list('ABCDEFGH')[:len(bits[0])], source='local')
    return df

def texts(fig):
    "Everything written in a figure"
    return [t.get_text() for t in fig.findobj(plt.Text)]

# --- tables

rows = st.integers(1, 5).flatmap(lambda k: st.lists(st.lists(st.sampled_from([0,1]), min_size=k, max_size=k), min_size=1, max_size=40))

@settings(max_examples=80, deadline=None, derandomize=True)
@given(rows, st.integers(0, 99))
def test_counts_agree_with_counting_by_hand(bits, seed):
    rng = np.random.default_rng(seed)
    df = table(bits, patients=[f'p{i}' for i in rng.integers(0, 1+len(bits)//2, len(bits))])
    combos,counts,names = label_combinations(df),label_counts(df),df.attrs['labels']
    by_hand = {}
    for b,p in zip(bits, df.patient):
        key = ' + '.join(n for n,v in zip(names, b) if v) or 'none of these'
        by_hand.setdefault(key, []).append(p)
    assert combos.images.to_dict() == {k:len(v) for k,v in by_hand.items()}
    assert combos.patients.to_dict() == {k:len(set(v)) for k,v in by_hand.items()}
    assert combos.images.is_monotonic_decreasing
    for n in names: assert counts.images[n]==df[n].sum() and counts.patients[n]==df.patient[df[n]==1].nunique()
    mixed = df.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(label_combinations(mixed).sort_index(), combos.sort_index())
    pd.testing.assert_frame_equal(label_counts(mixed).sort_index(), counts.sort_index())

def test_grades_in_words_and_numbers():
    df = pd.DataFrame(dict(path=list('abc'), patient=list('pqr'), grade=['NPDR','0','NPDR']))
    assert label_counts(df, 'grade').images.to_dict()=={'0':1, 'NPDR':2}
    assert label_counts(df.assign(grade=[2,0,2.]), 'grade').images.to_dict()=={'grade 0':1, 'grade 2':2}

def test_any_index_and_integer_type():
    df = table([[0,1],[1,1],[1,0],[0,0]], patients=list('ppqq'))
    want = label_combinations(df)
    odd = df.set_axis([7,7,3,3]).astype({'A':'Int64','B':'boolean'}); odd.attrs = df.attrs
    pd.testing.assert_frame_equal(label_combinations(odd), want)
    pd.testing.assert_frame_equal(label_counts(odd), label_counts(df))

def test_unknown_is_not_no():
    df = table([[0,0],[1,0],[0,0]]).astype({'A':'Int64','B':'Int64'})
    df.loc[0, ['A','B']] = pd.NA; df.loc[2, 'B'] = pd.NA; df.attrs['labels'] = ['A','B']
    assert label_counts(df).images.to_dict() == {'A':1, 'B':0, 'missing':2} # of the third row B is not told
    assert label_combinations(df).images.to_dict() == {'missing':2, 'A':1}
    assert label_matrix(df).isna().sum().tolist() == [1,2]

def test_labels_are_found_without_attrs():
    base = dict(path=list('ab'), patient=list('pq'), eye=None, split=None, patient_N=[0,1])
    look = lambda **kw: list(label_matrix(pd.DataFrame(base|kw)).columns)
    assert look(label=['x','y'], A=[0,1], B=[1,1]) == ['x','y']
    assert look(A=[0,1], B=[1,1], grade=[0,3]) == ['A','B']
    assert look(gradable=[0,1], grade=[0,3]) == ['grade 0','grade 3']
    assert look(A=[0,1], sex=['female','male'], age=[1.,0.]) == ['A']
    with pytest.raises(DataError, match="no labels .there are: path, patient, eye, split, patient_N, sex"): look(sex=['female',None])

@pytest.mark.parametrize('col,values,want', [
    ('label', ['2','10',None], ['10','2']), ('grade', [4.,0.,np.nan], ['grade 0','grade 4']),
    ('age', [0.,9.99,30.], ['0 to 9','30 to 39']), ('camera', ['b','a','b'], ['a','b']), ('flag', [True,False,True], ['flag','no flag']),
    ('dose', [1.5,2.,1.5], ['1.5','2']), ('mixed', [1,'a',None], ['1','a'])])
def test_a_column_becomes_classes(col, values, want):
    df = pd.DataFrame({'path':list('abc'), 'patient':list('pqr'), col:values})
    m = label_matrix(df, col)
    assert list(m.columns)==want and m.isna().all(axis=1).tolist()==df[col].isna().tolist()

def test_complaints_name_things():
    df = table([[0,1],[1,2]])
    with pytest.raises(DataError, match="the column B is to hold 0 and 1 and holds 1, 2"): label_counts(df)
    with pytest.raises(DataError, match="no column Z .there are: path, patient, A, B"): label_counts(df, ['A','Z'])
    for f in (plot_montage, explore, mean_eye, plot_combinations):
        with pytest.raises(DataError, match='no column patient'): f(df[['path','A']])
        with pytest.raises(DataError, match='no rows'): f(df[:0])
    with pytest.raises(DataError, match='no column sex, age'): plot_pyramid(df)

def test_any_column_is_counted_with_what_is_missing():
    df = table([[0,1]]*6, patients=list('aaabbc')).assign(sex=['female']*3+['male',None,'male'], age=[40.]*3+[np.nan]*3,
                                                       split=['train']*3+['test']*3, grade=[0,1,None,2,2,4])
    for o in ('split','eye','sex','age','grade'): assert label_counts(df, o).images.sum()==6, o
    assert label_counts(df, 'sex').images['missing']==1 and label_counts(df, 'age').patients['missing']==2
    assert label_counts(df, 'eye').index.tolist()==['missing']

def test_first_known_sex_and_age_of_a_patient():
    df = table([[0]]*4, patients=list('ppqq'), sex=[None,'male','female',None], age=[40.,41.,np.nan,7.])
    ax = plot_pyramid(df)
    assert ax.get_title(loc='left')=='2 patients'
    assert [t for t in texts(ax.figure) if 'median' in t]==['female: 1\nmedian 7 years', 'male: 1\nmedian 40 years']

def test_patients_stand_once_in_the_pyramid():
    df = table([[0]]*8, patients=list('aaaabbcd'), sex=['female']*4+['male']*2+[None,'female'], age=[30.]*4+[62,62,50,np.nan])
    ax = plot_pyramid(df)
    assert sum(abs(o.get_width()) for o in ax.patches)==2
    assert ax.get_title(loc='left')=='4 patients, 2 of unknown sex or age'
    assert sum(o.get_width() for o in ax.patches if o.get_width()<0)==-1

@pytest.mark.parametrize('age,width', [([50.],5), ([0.,100.],5), ([50.,50.],1), ([49.9,50.],10), ([17.,17.],7)])
def test_no_age_falls_off_the_pyramid(age, width):
    df = table([[0]]*len(age), sex='male', age=age)
    assert sum(o.get_width() for o in plot_pyramid(df, width).patches)==len(age)

# --- figures of odd tables

def test_many_labels_and_odd_names():
    n = 300
    df = pd.DataFrame(dict(path=range(n), patient=range(n), label=[f'$c_{i%60}' for i in range(n)]))
    fig = plot_combinations(df, top=10)
    assert '50\nothers' in texts(fig) and sum(o.get_height() for o in fig.axes[0].patches)==n
    fig.canvas.draw()
    assert len(groups_of(df, top=5))==5

def test_a_large_group_outranks_earlier_small_ones():
    df = pd.DataFrame(dict(path=range(9), patient=range(9), label=[*'aabbcc', *'ddd']))
    assert list(groups_of(df, top=2))==['a','d'] and [len(o) for o in groups_of(df, top=2).values()]==[2,3]

@pytest.mark.parametrize('bits', [[[0]], [[1]], [[0,0]], [[1,1,1,1,1,1,1,1]]*3])
def test_smallest_tables_can_be_drawn(bits):
    df = table(bits, sex='female', age=50.)
    for f in (plot_combinations, plot_pyramid):
        r = f(df); (r.figure if hasattr(r, 'figure') and r.figure else r).canvas.draw()

def test_all_missing_labels_say_so():
    df = pd.DataFrame(dict(path=list('ab'), patient=list('pq'), label=[None,None]))
    assert label_counts(df).images.to_dict()=={'missing':2}
    plot_combinations(df)
    with pytest.raises(DataError, match='no image has any of these labels'): plot_montage(df, by='label')

# --- images

def eye_picture(left, red=180, size=80, disc=220):
    "A disc-shaped field with a bright spot at the nose's side"
    y,x = np.mgrid[:size,:size]; c = size/2
    a = np.zeros((size,size,3)); a[np.hypot(x-c,y-c)<.47*size] = (red,90,40)
    a[np.hypot(x-(c-.25*size if left else c+.25*size),y-c)<.07*size] = disc
    return a.astype(np.uint8)

@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    "Twelve patients with two eyes each, of two labels that differ in red; one torn file"
    d,rng,rows = tmp_path_factory.mktemp('eyes'),np.random.default_rng(0),[]
    for p in range(12):
        for eye in 'LR':
            path = d/f'{p}_{eye}.png'
            Image.fromarray(eye_picture(eye=='L', 120+100*(p%2)).clip(0,235)+rng.integers(0,9,(80,80,3),dtype=np.uint8)).save(path)
            rows.append(dict(path=str(path), patient=f'p{p}', eye=eye, split=None, label='AB'[p%2]))
    df = pd.DataFrame(rows); df.attrs.update(source='local', name='drawn')
    (d/'0_L.png').write_bytes((d/'0_L.png').read_bytes()[:300])
    return df

def test_pixels_of_the_field_only(drawn):
    found = each(lambda p: field_pixels(p)[1].mean(0), drawn.path, '', workers=2)
    assert found[0] is None and all(o is not None for o in found[1:])
    red = pd.Series([o[0] for o in found[1:]])
    label = drawn.label[1:].reset_index(drop=True)
    assert red[label=='A'].between(120,132).all() and red[label=='B'].between(220,232).all()

def test_measures_of_the_audit_stand_beside_the_frame(drawn):
    s = audit(drawn, shortcuts=False).data
    assert s.problem.notna().sum()==1 and 'breaks off' in s.problem[0] and np.isnan(s.width[0])
    assert list(s.bytes[1:])==[len(open(p,'rb').read()) for p in s.path[1:]]
    assert set(drawn.columns)=={'path','patient','eye','split','label'}, "the frame itself is not to change"

def test_groups_are_those_of_the_labels_that_somebody_has(drawn):
    df = drawn.assign(A=0, B=1); df.attrs.update(labels=('A','B'))
    assert list(groups_of(df))==['B']

def test_one_image_a_patient(drawn):
    for seed in range(5):
        i = one_a_patient(drawn, np.arange(len(drawn)), 99, seed=seed)
        assert len(i)==12 and drawn.patient.iloc[i].is_unique
    assert len(one_a_patient(drawn, np.arange(len(drawn)), 5, seed=0))==5

def test_histograms_tell_the_classes(drawn):
    h = color_histograms(drawn, n=6, bins=32)
    assert h.sum(axis=1).to_numpy()==pytest.approx(1)
    assert abs(h.xs(('A','red'), level=('group','channel')).iloc[0].idxmax()-124)<=12
    assert h.xs(('B','red'), level=('group','channel')).iloc[0].idxmax()>=216
    with warnings.catch_warnings(): warnings.simplefilter('error'); plot_color_histograms(h)

def test_a_peak_that_is_cut_off_says_how_high_it_is():
    "Six groups: one has a peak that would flatten the others, and four columns end in a panel with numbers below"
    v,rows = np.full(64, .01),{}
    for k in 'ABCDEF':
        for i,c in enumerate(('red','green','blue')):
            o = v.copy(); o[[50,30,10][i]] = .15; rows[k,c,9] = o
    rows['C','blue',9][10] = .37
    h = pd.DataFrame(rows, np.arange(64)*4).T.rename_axis(['group','channel','images'])
    fig = plot_color_histograms(h); fig.canvas.draw()
    assert [[t.get_text() for t in ax.texts] for ax in fig.axes[:6]]==[[],[],['↑ 0.37'],[],[],[]]
    shown = [any(t.label1.get_visible() for t in ax.xaxis.get_major_ticks()) for ax in fig.axes[:6]]
    assert shown==[False,False,True,True,True,True]

def test_mirrored_discs_coincide(drawn):
    e = mean_eye(drawn, 'eye', n=10, size=80)
    assert e['L'].mirrored==e['L'].images>=9 and e['R'].mirrored==0
    spot = lambda m: np.unravel_index(m[...,2].argmax(), m.shape[:2])[1]
    assert spot(e['L'].mean)>45 and spot(e['R'].mean)>45
    plain = mean_eye(drawn, 'eye', n=10, size=80, canonical=False)
    assert spot(plain['L'].mean)<35 and plain['L'].mirrored==0
    np.testing.assert_allclose(plain['L'].mean[:,::-1], e['L'].mean, atol=1)
    assert e['L'].std[38:42,38:42,1:].max()<6<e['L'].std[38:42,38:42,0].min()

def test_mean_is_the_mean(drawn):
    one = drawn[drawn.path.str.endswith('/1_R.png')]
    e = mean_eye(one.assign(label='x'), size=64)['x']
    assert e.std.max()==0 and e.images==1
    pair = drawn[(drawn.eye=='R') & drawn.patient.isin(['p1','p2'])].assign(label='x')
    each = [mean_eye(pair[i:i+1], size=64)['x'].mean for i in (0,1)]
    np.testing.assert_allclose(mean_eye(pair, size=64)['x'].mean, np.mean(each, axis=0), atol=1e-3)

@pytest.mark.parametrize('source', ['phantom','local'])
def test_every_figure_of_phantoms_says_so(drawn, source):
    df = drawn.assign(sex='female', age=50.); df.attrs.update(source=source)
    figs = explore(df, n=3)
    assert len(figs)==5
    for k,f in figs.items(): assert ('PHANTOM DATA' in texts(f))==(source=='phantom'), k

def test_unreadable_files_leave_gaps(drawn):
    ax = plot_montage(drawn[:1], n=1, size=32)
    im = np.asarray(ax.images[0].get_array())
    assert {tuple(o) for o in im[:32,:32].reshape(-1,3)}=={(225,)*3,(150,)*3}
    for f in (mean_eye, color_histograms):
        with pytest.raises(DataError, match='0_L.png breaks off'): f(drawn[:1])

def test_montage_rows_are_their_groups(drawn):
    ax = plot_montage(drawn[2:], n=4, size=40)
    im = np.asarray(ax.images[0].get_array())
    assert [o.get_text() for o in ax.get_yticklabels()]==['A\n10 images','B\n12 images']
    assert im[20,::43][0,0]<140 and im[63,20,0]>210

def test_shapes_and_kinds_of_pictures(tmp_path):
    "Gray and color, portrait and landscape, transparent and tiny, all in one set"
    kinds = dict(gray=np.full((60,40), 99, np.uint8), wide=np.full((20,90,3), 99, np.uint8), black=np.zeros((50,50,3), np.uint8),
                 rgba=np.full((50,50,4), 128, np.uint8), tiny=np.full((16,16,3), 60, np.uint8))
    for k,a in kinds.items(): Image.fromarray(a).save(tmp_path/f'{k}.png')
    df = pd.DataFrame(dict(path=[str(tmp_path/f'{k}.png') for k in kinds], patient=list(kinds), eye=None, label='x'))
    assert mean_eye(df, size=32)['x'].images==5
    for f in explore(df, n=5).values(): f.canvas.draw()

# --- phantoms and real images

def test_oct_phantoms(tmp_path):
    from fundus_fastai.data.catalog import make_phantom, read_dataset
    df = read_dataset('kermany2018', make_phantom('kermany2018', tmp_path/'oct', patients=8))
    assert label_counts(df, 'eye').index.tolist()==['missing']
    figs = explore(df, n=2)
    assert list(figs)==['combinations','colors','montage','mean']

def test_real_odir(test_data):
    from fundus_fastai.data.catalog import read_dataset
    df = read_dataset('odir5k', test_data/'odir5k')
    raw = pd.read_csv(test_data/'odir5k'/'full_df.csv')
    assert len(df)==len(raw) and df.patient.nunique()==raw.ID.nunique()
    ages = raw[raw['Patient Age']>1].drop_duplicates('ID')
    assert sum(abs(o.get_width()) for o in plot_pyramid(df).patches)==len(ages)
    one = df.drop_duplicates('patient')
    assert one.sex.value_counts().to_dict()==raw.drop_duplicates('ID')['Patient Sex'].str.lower().value_counts().to_dict()
    assert label_combinations(df).images.sum()==len(df)
    e = mean_eye(df, 'eye', n=80)
    side = lambda m: m[44:84,64:,1].max()-m[44:84,:64,1].max() # the disc is on the right, left eyes mirrored
    assert side(e['L'].mean)>15 and side(e['R'].mean)>15


def test_images_without_any_label_are_shown_together(tmp_path):
    "All-zero label rows are no error: there is still something to see"
    rows = []
    for i in range(6):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (40,40,3), np.uint8)).save(tmp_path/f'{i}.png')
        rows.append(dict(path=str(tmp_path/f'{i}.png'), patient=str(i), eye=None, drusen=0, haze=0))
    df = pd.DataFrame(rows); df.attrs['labels'] = ('drusen','haze')
    assert {'montage','mean','colors'}<=set(explore(df, workers=1))
    with pytest.raises(DataError, match='no image has any'): plot_montage(df, by=['drusen'])

@pytest.mark.parametrize('f,why', [
    *[(lambda o=o: plot_mean_eye(o), 'a dict of mean eyes') for o in ([], {}, None, dict(a=5))], *[(lambda o=o: plot_color_histograms(o), 'color_histograms') for o in ([], None, pd.DataFrame())],
    *[(lambda f=f: f(None), 'a table') for f in (label_combinations, plot_combinations, plot_pyramid, color_histograms, mean_eye, plot_montage, explore, audit)],
    (lambda: plot_combinations(table([[0,1],[1,0]]), top=0), '`top`'), (lambda: plot_pyramid(table([[0,1]], sex='male', age=3), width=0), '`width`'),
    *[(lambda kw=kw: mean_eye(table([[0,1],[1,0]]), canonical=False, **kw), '`') for kw in (dict(n=0), dict(n=1.5), dict(seed=-1), dict(workers='a'), dict(top=0))],
    (lambda: color_histograms(table([[0,1],[1,0]]), bins=-1), '`bins`'), (lambda: plot_montage(table([[0,1],[1,0]]), size='a'), '`size`'),
    (lambda: audit(table([[0,1],[1,0]]), workers=0), '`workers`'), (lambda: audit(table([[0,1],[1,0]]), far='a'), '`far`'), (lambda: audit(table([[0,1],[1,0]]), most=-1), '`most`')])
def test_a_sentence_for_odd_input(f, why):
    with pytest.raises(DataError, match=why): f()

def test_patients_of_combinations_are_counted_at_once():
    "As many combinations as rows had taken a search each"
    rng = np.random.default_rng(0)
    df = table(rng.integers(0, 2, (300,6)).tolist(), [f'p{i}' for i in rng.integers(0, 90, 300)]).set_axis([7]*300)
    t = label_combinations(df)
    for k,r in t.iterrows():
        own = df[[' + '.join(c for c in 'ABCDEF' if o[c]) or 'none of these' for _,o in df.iterrows()]==np.array(k)]
        assert (r.images,r.patients)==(len(own),own.patient.nunique())
