"Methods on trial: whose truth, which images, and whether the table says what the maps say"
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from torch import nn
from fundus_fastai.options import BenchmarkOptions, TrainOptions
from fundus_fastai.core import DataError, EyeError, LeakError, ModelError
from fundus_fastai.data.catalog import make_phantom
from fundus_fastai.data.splits import save_split, split_hash
from fundus_fastai.run import benchmark as trial
from fundus_fastai.run.folder import only_writer
from fundus_fastai.score.scores import pick
from fundus_fastai.explain.faithful import BASELINE_MAPS
from fundus_fastai.run.benchmark import (MEASURES, DEFAULT_METHODS, check_masks, check_unseen, lesion_mask, pick_lesions, plot_benchmark,
    plot_benchmark_maps, read_mask, save_benchmark, summarize, method_settings, benchmark_maps)
from fundus_fastai.explain.maps import eye_view, truth_mask
from fundus_fastai.vision.steps import load_frame, make_learner, split_frame

torch.set_num_threads(1)
OPTS = dict(methods=dict(occlusion=('occlusion', dict(window=16, stride=16, progress=False)), cam=('grad_cam', {})), steps=4, broken=2,
            n_boot=50)

class Small(nn.Module):
    def __init__(self, k):
        super().__init__(); torch.manual_seed(0)
        self.a,self.b,self.fc = nn.Conv2d(3, 8, 5, 2),nn.Conv2d(8, 8, 3, 2),nn.Linear(8, k)
    def forward(self, x): return self.fc(self.b(self.a(x).tanh()).tanh().mean((2,3))*9)

@pytest.fixture(scope='module')
def oct(tmp_path_factory):
    "Frame and a net that has learned nothing"
    root = make_phantom('kermany2018', tmp_path_factory.mktemp('d')/'oct', patients=16)
    df = split_frame(load_frame('oct', str(root)))
    learn = make_learner(df, 'oct', TrainOptions('resnet10t', weights='none', size=48, bs=8, workers=0))
    learn.model = Small(4).eval()
    return learn,df,root

@pytest.fixture(scope='module')
def t(oct):
    learn,df,root = oct
    return benchmark_maps(learn, df, BenchmarkOptions(n=6, **OPTS))

def test_the_table_holds_what_was_measured(t):
    assert list(t.table.index)==['occlusion','cam',*BASELINE_MAPS] and list(t.table.columns)==list(MEASURES)
    assert len(t.rows)==6*(2+len(BASELINE_MAPS)) and t.rows.groupby('method').image.nunique().eq(6).all()
    for k,m in t.maps.items():
        g = t.rows[t.rows.method==k].set_index('image')
        for i in range(6):
            p = m[i].clip(0); want = p[t.truth[i]].sum()/p.sum() if p.any() else np.nan
            assert g.share[i]==pytest.approx(want, nan_ok=True, abs=1e-5)
            assert g['class'][i]==t.used['class'][i] and g.patient[i]==t.used.patient[i] and g.path[i]==t.used.path[i]
    for m in MEASURES: # the mean over images, and the difference on the same images
        e,d,a,b = t.table[m]['cam'],t.against_center[m]['cam'],*(t.rows[t.rows.method==k].set_index('image')[m] for k in ('cam','center'))
        assert e.value==pytest.approx(a.mean(), nan_ok=True) and d.value==pytest.approx((a-b).mean(), nan_ok=True)
    told = t.told[t.told.measure=='broken']
    assert told[told['class']=='all'].n.between(1, 3).all()

def test_maps_are_those_of_the_image_and_its_class(oct, t):
    learn,df,root = oct
    for i in (0,5):
        path = str(root/t.used.path[i])
        e = learn.evidence([path], 'grad_cam', target=t.used.output[i])
        assert np.allclose(t.maps['cam'][i], e.map[0,0], atol=1e-5)
        assert t.used.output[i]==df[df.path.astype(str)==path].label.item()==t.used['class'][i]
        m = truth_mask(learn, path)
        assert abs(t.truth[i].mean()-m.mean())<.01

def test_the_net_is_broken_for_as_many_patients_as_can_be(oct):
    learn,df,root = oct
    used = pd.DataFrame(dict(path=[str(p) for p in df.path[:4]], patient=list('aabc'), output=['CNV','CNV','CNV','DME']))
    few = trial._broken(learn, torch.randn(4,3,48,48), used, {}, 4, 0)
    assert sorted(few.image.unique())==[0,2,3] and len(few)==3*len(BASELINE_MAPS)

def test_deletion_is_that_of_the_map(oct, t):
    from fundus_fastai.explain.faithful import curve_area, deletion_curve, insertion_curve
    learn,_,root = oct
    x = learn.dls.test_dl(pd.DataFrame(dict(path=[str(root/t.used.path[3])]))).one_batch()[0].cpu()
    r = t.rows[(t.rows.method=='edges')&(t.rows.image==3)].iloc[0]
    for k,f in dict(deletion=deletion_curve, insertion=insertion_curve).items():
        assert r[k]==pytest.approx(curve_area(f(learn, x, t.maps['edges'][3], target=t.used.output[3], steps=4)), abs=1e-5)

def test_only_test_patients_with_a_lesion(oct, t):
    learn,df,root = oct
    test = df[df.split=='test']
    assert set(t.used.patient)<=set(test.patient) and 'NORMAL' not in set(t.used['class'])
    c = t.counts
    assert c['images']==len(test) and c['used']==6 and c['misread']==0
    assert sum(c[k] for k in ('without_lesion','misread','not_drawn','used'))==c['images']
    assert c['without_lesion']==sum(truth_mask(learn, p) is None for p in test.path)
    right = pick_lesions(learn, test.reset_index(drop=True), root, n=0, right=True)
    assert right[0].right.all() and right[2]['misread']+len(right[0])+right[2]['without_lesion']==len(test)
    assert right[2]['misread']>0

def test_familiar_patients_are_refused(oct, tmp_path):
    learn,df,root = oct
    with pytest.raises(LeakError, match='has learned from'): benchmark_maps(learn, df.assign(split='test'), BenchmarkOptions(**OPTS))
    with pytest.raises(LeakError, match='has learned from'): benchmark_maps(learn, df[df.split=='train'].drop(columns='split'), BenchmarkOptions(**OPTS))
    save_split(df, tmp_path/'split.csv', root)
    keep = check_unseen(learn, df.drop(columns='split'), tmp_path)
    assert set(keep.patient)==set(df[df.split=='test'].patient)
    with pytest.raises(LeakError, match='were trained on'): check_unseen(learn, df[df.split!='test'].copy(), tmp_path)
    alike = df[df.split=='train'].drop(columns='split').assign(patient=lambda o: ' '+o.patient.astype(str).str.upper())
    with pytest.raises(LeakError, match='has learned from'): check_unseen(learn, alike)
    assert len(check_unseen(learn, df.assign(split='test'), allow_leak=True))==len(df)
    blank = SimpleNamespace(dls=SimpleNamespace(train_ds=SimpleNamespace(items=df[['path']])))
    with pytest.raises(DataError, match='pass `run`, its folder'): check_unseen(blank, df.drop(columns='split'))
    with pytest.raises(DataError, match='pass `run`, its folder'): check_unseen(blank, df) # sides of a data set are not those of a net
    blank.config = dict(split_hash=split_hash(df, root))
    df.attrs['root'] = str(root)
    assert len(check_unseen(blank, df))==(df.split=='test').sum()

def test_it_says_phantom_and_what_was_used(oct, t):
    assert t.text.startswith('PHANTOM DATA') and '6 images with a lesion' in t.text and 'without a lesion' in t.note
    t2 = trial.MapBenchmark(t.told, t.rows, t.used, t.counts, {**t.setup, 'net_source':'phantom', 'data_source':'files', 'allow_leak':True, 'masks':True}, dict(rise='no'), t.maps,
                     t.images, t.truth)
    assert 'may have learned from' in t2.note and 'masks of your own' in t2.note and 'has not learned from' in t.note
    assert 'PHANTOM NET' in t2.text and 'PHANTOM DATA' not in t2.text and 'rise is left out: no' in t2.text
    fig = plot_benchmark(t); assert 'PHANTOM DATA' in fig._suptitle.get_text()
    fig = plot_benchmark_maps(t); assert 'PHANTOM DATA' in fig._suptitle.get_text()

def test_files(t, tmp_path):
    save_benchmark(t, tmp_path/'out')
    assert {o.name for o in (tmp_path/'out').iterdir()}=={'trial.csv','trial.json','images.csv','trial.png','maps.png'}
    csv,js = pd.read_csv(tmp_path/'out/trial.csv'),json.loads((tmp_path/'out/trial.json').read_text())
    e = t.table.precision['cam']; r = csv[(csv['class']=='all')&(csv.method=='cam')&(csv.measure=='precision')].iloc[0]
    assert (r.value, r.low, r.high)==pytest.approx(e[:3], nan_ok=True) and r.n==6 and r.better=='higher'
    assert r.minus_center_value==pytest.approx(t.against_center.precision['cam'].value)
    assert csv[csv.measure=='deletion'].better.eq('lower').all()
    assert js['phantom']=='PHANTOM DATA' and js['counts']['used']==6 and len(js['images'])==6 and js['setup']['ways']['cam'][0]=='grad_cam'
    assert str(tmp_path) not in (tmp_path/'out/trial.json').read_text() and not any(str(o).startswith('/') for o in t.used.path)
    with pytest.raises(DataError, match='force'): save_benchmark(t, tmp_path/'out')
    save_benchmark(t, tmp_path/'out', force=True)

def test_nothing_old_stands_beside_what_is_new(t, tmp_path, monkeypatch):
    "Stopped, `--force` left the new table beside the numbers and pictures of the old one"
    def stop(t): raise KeyboardInterrupt
    save_benchmark(t, tmp_path)
    for o in tmp_path.iterdir(): o.write_text(trial.signs[o.name] or 'old')
    was = {o.name:o.read_bytes() for o in tmp_path.iterdir()}
    monkeypatch.setattr(trial, 'plot_benchmark', stop)
    with pytest.raises(KeyboardInterrupt): save_benchmark(t, tmp_path, force=True)
    assert {o.name:o.read_bytes() for o in tmp_path.iterdir()}==was

def test_two_do_not_meet_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, 'only_writer', partial(only_writer, patience=0))
    with only_writer(tmp_path/'out'), pytest.raises(DataError, match='another program is writing'):
        trial.benchmark_run(Path(__file__).parent/'old_run/run', out=tmp_path/'out', force=True)

# --- own masks

@pytest.fixture
def own(oct, tmp_path):
    "Masks that a user may have drawn: those of the truth, at other sizes and in other kinds of PNG"
    learn,df,root = oct
    test = df[df.split=='test'].reset_index(drop=True)
    for i,p in enumerate(test.path):
        m = truth_mask(learn, p)
        m = (np.zeros(eye_view(learn, p).shape[:2]) if m is None else m).astype(np.uint8)
        im = Image.fromarray(m*(1,255,7,1)[i%4])
        if i%4==1: im = im.resize((im.width*2,im.height*2), 0)
        if i%4==2: im = im.convert('RGB')
        if i%4==3: im = Image.fromarray((m>0))
        im.save(tmp_path/f'{p.stem if hasattr(p, "stem") else p.split("/")[-1].rsplit(".", 1)[0]}.png')
    return tmp_path,test

def test_own_masks_give_what_the_truth_gives(oct, own):
    learn,df,root = oct
    masks,test = own
    a,b = (pick_lesions(learn, test, root, masks=m, n=0) for m in (None,masks))
    assert a[2]==b[2] and a[0].path.tolist()==b[0].path.tolist()
    assert (a[1]!=b[1]).mean()<2e-3 and a[1].any((1,2)).all() and b[1].any((1,2)).all()
    t = benchmark_maps(learn, df, BenchmarkOptions(masks, n=4, **{**OPTS, 'steps':0, 'broken':0}))
    assert t.text.startswith('PHANTOM DATA') # whoever drew the masks
    assert list(t.table.columns)==['pointing','share','precision'] and t.counts['without_lesion']==a[2]['without_lesion']

def test_masks_that_will_not_do(oct, own, tmp_path):
    learn,df,root = oct
    masks,test = own
    f = masks/(test.path.astype(str)[0].split('/')[-1].rsplit('.', 1)[0]+'.png')
    with Image.open(f) as im: w,h = im.size
    Image.new('L', (h,w)).save(f)
    with pytest.raises(DataError, match='not the same picture'): pick_lesions(learn, test, root, masks=masks)
    f.write_bytes(b'no picture')
    with pytest.raises(DataError, match='cannot be read'): pick_lesions(learn, test, root, masks=masks)
    f.unlink()
    with pytest.raises(DataError, match=f'1 of {len(test)} images have no mask'): pick_lesions(learn, test, root, masks=masks)
    with pytest.raises(DataError, match='no folder of masks'): pick_lesions(learn, test, root, masks=masks/'none')
    with pytest.raises(DataError, match='several images are called a'): check_masks(['x/a.png','y/a.png'], masks)
    with pytest.raises(DataError, match='nothing to try on'): pick_lesions(learn, test[test.label=='NORMAL'], root)

@pytest.mark.parametrize('mode', ['L','1','RGB','RGBA','P','I;16'])
def test_any_png_is_a_mask(tmp_path, mode):
    m = np.zeros((20,30), bool); m[4:9,5:12] = True
    if mode=='I;16': im = Image.fromarray(m.astype(np.uint16))
    elif mode=='P': im = Image.fromarray(m.astype(np.uint8), 'P'); im.putpalette([0,0,0, 9,0,0]+[0]*762)
    else: im = Image.fromarray(m.astype(np.uint8)*255).convert(mode)
    im.save(tmp_path/'m.png')
    assert (read_mask(tmp_path/'m.png')==m).all()

def test_a_lesion_is_not_lost_in_the_small_map():
    t = np.zeros((500,700), bool); t[301,77] = True
    m = trial._fitted(t, 48)
    assert 1<=m.sum()<=4 and m[28:30,4:7].any()

def test_fundus_masks_go_the_way_of_the_picture(tmp_path):
    "A photograph is cropped to its field: so is the mask"
    root = make_phantom('odir5k', tmp_path/'odir', patients=8)
    df = split_frame(load_frame('disease', str(root)))
    learn = make_learner(df, 'disease', TrainOptions('resnet10t', weights='none', size=48, bs=8, workers=0))
    path = next(p for p in df.path if truth_mask(learn, p) is not None)
    from fundus_fastai.phantom.fundus import fundus_truth
    Image.fromarray(fundus_truth(path).mask.astype(np.uint8)*255).save(tmp_path/f'{str(path).split("/")[-1].rsplit(".", 1)[0]}.png')
    a,b = lesion_mask(learn, path),lesion_mask(learn, path, tmp_path)
    assert a.shape==b.shape==eye_view(learn, path).shape[:2] and (a!=b).mean()<2e-3
    assert method_settings(learn, 'occlusion')['occlusion'][1]['inside']=='field'

# --- lots, ways, failures

def test_the_lot_is_even_and_kept(oct):
    rows = pd.DataFrame({'path':[f'{i:03}' for i in range(60)], 'patient':[f'p{i//6}' for i in range(60)],
                         'class':['a']*42+['b']*12+['c']*6, 'right':True})
    def lot(rows, n, seed): return pick(rows, 'random', n, per='class', seed=seed)
    d = lot(rows, 12, 0)
    assert d['class'].value_counts().to_dict()=={'a':4,'b':4,'c':4} and d[d['class']=='a'].patient.nunique()==4
    assert d.equals(lot(rows.sample(frac=1, random_state=3).sort_index(), 12, 0)) and not d.equals(lot(rows, 12, 1))
    assert len(lot(rows, 0, 0))==60

def test_a_map_that_shows_nothing_is_counted(t):
    "Only trial.csv said that a mean was of fewer images"
    from dataclasses import replace
    rows = t.rows.copy()
    rows.loc[(rows.method=='cam')&(rows.image==0), ['pointing','share']] = np.nan
    n = len(t.used)
    assert 'shows nothing' not in t.text
    less = replace(t, told=summarize(rows, 20))
    assert f"cam: pointing and share are of {n-1} of the images: of the others its map shows nothing" in less.text

def test_what_cannot_be_had_is_left_out_and_said(oct, monkeypatch, capsys):
    import sys
    learn,df,root = oct
    monkeypatch.setitem(sys.modules, 'captum.attr', None); monkeypatch.setitem(sys.modules, 'captum', None)
    t = benchmark_maps(learn, df, BenchmarkOptions(n=3, methods=('grad_cam','integrated_gradients'), steps=0, broken=0, n_boot=20))
    assert list(t.table.index)==['grad_cam',*BASELINE_MAPS] and 'pip install' in t.failed['integrated_gradients']
    assert 'integrated_gradients is left out' in t.text and 'integrated_gradients is left out' in capsys.readouterr().err
    with pytest.raises(ModelError, match='no method can explain'):
        benchmark_maps(learn, df, BenchmarkOptions(n=3, methods='integrated_gradients', steps=0, broken=0))
    with pytest.raises(EyeError, match='did you mean grad_cam'): benchmark_maps(learn, df, BenchmarkOptions(methods=['gradcam']))
    with pytest.raises(EyeError, match='unknown method'): method_settings(learn, dict(mine=('no', {})))

@pytest.mark.parametrize('names,says', [((),'name one method'), ({},'name one method'), (dict(center=('occlusion', {})),'knows nothing is called')])
def test_names_that_say_nothing(oct, names, says):
    "A map called as one that knows nothing was shown as that one"
    with pytest.raises(DataError, match=says): method_settings(oct[0], names)

def test_a_method_of_ones_own_name_needs_no_options(oct): assert method_settings(oct[0], dict(mine='grad_cam'))==dict(mine=('grad_cam', {}))
def test_a_lot_is_from_zero_on():
    with pytest.raises(DataError, match='`lot` is to be at least 0'): BenchmarkOptions(lot=-1)

def test_the_difference_pairs_images():
    "Images differ far more than methods do: only a paired difference sees which is the better"
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 1, 40)
    rows = pd.concat([pd.DataFrame(dict(method=k, image=range(40), share=base+d, patient=np.arange(40)//2, **{'class':'x'}))
                      for k,d in (('good',.03),('center',0.))])
    told = summarize(rows, 200)
    d = told[told.method=='good'].minus_center.iloc[0]
    assert d.value==pytest.approx(.03) and set(told['class'])=={'all'} and len(told)==2
    e = told[told.method=='good'].estimate.iloc[0]; assert e.low<base.mean()<e.high

def test_numbers_are_tried_too(oct):
    "An age has no class: the evidence is for a higher answer"
    from fundus_fastai.vision.outputs import NumberOutput
    learn,df,root = oct
    answer = NumberOutput(['age'], 50, 10)
    num = df.assign(label=np.linspace(30, 70, len(df)))
    n = make_learner(df, 'oct', TrainOptions('resnet10t', weights='none', size=48, bs=8, workers=0))
    n.model,n.dls.output,n.loss_func = Small(1).eval(),answer,answer.loss()
    t = benchmark_maps(n, num, BenchmarkOptions(n=4, **OPTS))
    assert set(t.used['class'])=={'age'} and set(t.told['class'])=={'all'} and t.table.deletion['center'].value>10
