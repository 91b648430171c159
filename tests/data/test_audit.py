"The audit: everything that was planted is found, nothing else is, and bad input is told"
import json, os, shutil
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image, ImageOps
from fundus_fastai.core import DataError
from fundus_fastai.data import audit as A
from fundus_fastai.data.audit import audit, open_frame, same_bytes
from fundus_fastai.data.catalog import read_dataset
from fundus_fastai.data.splits import check_split, split_patients
from fundus_fastai.image.hospital import patient_digest
from fundus_fastai.image.recipe import disc_side
from fundus_fastai.phantom.fundus import phantom_fundus
from fundus_fastai.phantom.layouts import write_layout
from fundus_fastai.phantom.oct import write_kermany
from house.shared import ROOT

@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    "Phantom scans with several a patient, phantom photographs of both eyes; each as a frame with a clean split"
    d = tmp_path_factory.mktemp('audit')
    write_kermany(d/'oct', patients=16, scans=(3,5), size=(248,256), leak=0)
    write_layout('odir5k', d/'fundus', patients=24, size=256)
    oct_,fundus = read_dataset('kermany2018', d/'oct'),read_dataset('odir5k', d/'fundus')
    fundus['rare'] = fundus[list(fundus.attrs['labels'])].idxmax(axis=1)
    return {'oct':split_patients(oct_, seed=1), 'fundus':split_patients(fundus, by='rare', seed=1)}

WAYS = {'half':lambda im: im.resize([o//2 for o in im.size]), 'larger':lambda im: im.resize([o*3//2 for o in im.size]),
        'square':lambda im: im.resize((200,200)), 'quality':lambda im: im, 'brighter':lambda im: im.point(lambda v: min(255, v*1.25)),
        'darker':lambda im: im.point(lambda v: v*.75), 'mirror':ImageOps.mirror, 'flip':ImageOps.flip,
        'contrast':lambda im: im.point(lambda v: max(0, min(255, (v-60)*1.25+60))),
        'all':lambda im: ImageOps.mirror(im).resize([o*7//10 for o in im.size]).point(lambda v: v*.8+10)}

def plant(df, d):
    "A copy of `df` with one planted case of each kind, and the pairs that are to be found"
    d.mkdir(exist_ok=True)
    src = df[df.split=='train'].drop_duplicates('patient').reset_index(drop=True)
    rows,pairs = [],set()
    def add(k, path, **kw): rows.append(src.loc[k].to_dict()|dict(path=str(path))|kw)
    for i,(name,f) in enumerate(WAYS.items()):
        k,to = i%len(src),d/f'{name}.jpg'
        f(Image.open(src.path[k]).convert('RGB')).save(to, quality=30 if name=='quality' else 70 if name=='all' else 92)
        add(k, to); pairs.add(frozenset((src.path[k], str(to))))
    shutil.copy(src.path[0], d/'bytes.jpg'); add(0, d/'bytes.jpg', patient='other'); pairs.add(frozenset((src.path[0], str(d/'bytes.jpg'))))
    Image.fromarray(np.full((256,256,3), 77, np.uint8)).save(d/'blank.png'); add(1, d/'blank.png')
    (d/'broken.jpg').write_bytes(Path(src.path[1]).read_bytes()[:2000]); add(1, d/'broken.jpg')
    add(1, d/'missing.jpg')
    (d/'text.png').write_text('no image'); add(1, d/'text.png')
    out = pd.concat([df, pd.DataFrame(rows)], ignore_index=True); out.attrs = df.attrs
    return out,pairs,src

def closed(pairs):
    "Pairs and those that follow: a copy of a copy is a copy"
    groups = []
    for p in pairs:
        touch = [g for g in groups if g&p]; groups = [g for g in groups if not g&p]+[set(p).union(*touch)]
    return {frozenset((a,b)) for g in groups for a in g for b in g if a<b}

def test_the_order_of_the_rows_changes_nothing(sets, tmp_path):
    "Which of two copies is named, how far apart they are, and what a border tells: all hung on how a table was sorted"
    df,_,_ = plant(sets['fundus'], tmp_path/'p')
    mixed = df.sample(frac=1, random_state=1)
    mixed.attrs = df.attrs
    a,b = audit(df, 'rare'),audit(mixed, 'rare')
    for one in (a,b): one.save(tmp_path/str(id(one)))
    for o in ('audit.csv','audit.json'):
        assert len({(tmp_path/str(id(one))/o).read_bytes() for one in (a,b)}) == 1, o
    assert b.data.path.tolist() == mixed.path.tolist() and len(a.exact_duplicates)
    for o in b.pairs().itertuples(): assert (o.path_a,o.path_b) == tuple(b.data.path.iloc[[o.row_a,o.row_b]])

@pytest.mark.parametrize('kind', ['oct','fundus'])
def test_planted_are_found_and_none_invented(sets, kind, tmp_path):
    df,pairs,src = plant(sets[kind], tmp_path/'p')
    a = audit(df, shortcuts=False)
    found = {frozenset((o.path_a, o.path_b)) for o in a.pairs().itertuples()}
    print(f"{kind}: found {len(pairs&found)} of {len(pairs)}, invented {len(found-closed(pairs))} of {len(df)} images")
    assert pairs <= found
    assert found <= closed(pairs)
    assert {os.path.basename(o) for o in a.unreadable.path} == {'broken.jpg','missing.jpg','text.png'}
    assert [os.path.basename(o) for o in a.blank.path] == ['blank.png']
    assert not len(a.dark)
    exact = a.exact_duplicates
    assert len(exact)==1 and exact.across[0]=='patients' and exact.distance[0]==0
    assert set(a.summary) == {'check','found','of','remark'}

@pytest.mark.parametrize('kind', ['oct','fundus'])
def test_clean_is_clean(sets, kind):
    "Scans of one patient, both eyes of one person: alike, and not the same"
    a = audit(sets[kind], shortcuts=False)
    assert not len(a.pairs()) and not a.leaky
    assert not any(len(getattr(a, o)) for o in ('leaks','split_eyes','conflicts','unreadable','blank','dark'))
    assert len(a.groups().unique())==len(sets[kind])

def test_leaks_and_eyes(sets):
    df = sets['fundus'].copy(); df.attrs = sets['fundus'].attrs
    p = df[df.split=='train'].patient.iloc[0]
    df.loc[(df.patient==p)&(df.eye=='R'), 'split'] = 'test'
    a = audit(df, shortcuts=False)
    assert a.leaks.patient.tolist()==[p]==a.split_eyes.patient.tolist() and a.leaky
    assert a.split_eyes[['left','right']].iloc[0].tolist()==['train','test']

def test_duplicates_across_splits_leak_and_groups_mend_it(sets, tmp_path):
    df = sets['oct']; i = df.index[df.split=='train'][0]
    to = tmp_path/'again.jpg'; Image.open(df.path[i]).resize((180,174)).save(to, quality=60)
    more = pd.concat([df, pd.DataFrame([df.loc[i].to_dict()|dict(path=str(to), patient='alias', split='test', label='NORMAL' if df.label[i]!='NORMAL' else 'CNV')])], ignore_index=True)
    more.attrs = df.attrs
    check_split(more) # by name nobody is on two sides
    a = audit(more, shortcuts=False)
    assert a.leaky and a.near_duplicates.across.tolist()==['patients, splits, labels'] and len(a.conflicts)==1
    for s in range(4):
        o = split_patients(more, seed=s, groups=a.groups())
        assert o.split[i]==o.split.iloc[-1]
        assert not audit(o.iloc[[i,len(o)-1]], shortcuts=False).leaky

def test_dark(sets, tmp_path):
    Image.open(sets['fundus'].path[0]).point(lambda v: v*.1).save(tmp_path/'dark.png')
    a = audit(pd.DataFrame({'path':[str(tmp_path/'dark.png'), sets['fundus'].path[1]]}))
    assert [os.path.basename(o) for o in a.dark.path]==['dark.png'] and not len(a.blank)

def test_many_copies_of_one(sets, tmp_path):
    "More copies than neighbors that are asked for first"
    for k in range(20): Image.open(sets['oct'].path[0]).resize((200+3*k,190+3*k)).save(tmp_path/f'{k}.jpg', quality=50+2*k)
    rest = sets['oct'].path[1:30].tolist()
    a = audit(pd.DataFrame({'path':[*map(str, tmp_path.glob('*.jpg')), *rest]}), shortcuts=False)
    assert len(a.near_duplicates)==20*19//2 and a.groups().value_counts().iloc[0]==20

def test_pixel_identical_in_another_format(sets, tmp_path):
    Image.open(sets['oct'].path[0]).save(tmp_path/'same.png')
    a = audit(pd.DataFrame({'path':[sets['oct'].path[0], str(tmp_path/'same.png')]}))
    assert not len(a.exact_duplicates) and a.near_duplicates.distance.iloc[0]<.05

def test_shortcuts_found_and_not_invented(sets, tmp_path):
    df = sets['oct'].copy(); df.attrs = sets['oct'].attrs
    df['label'] = df.patient.map({p:'ab'[i%2] for i,p in enumerate(df.patient.unique())})
    none = audit(df).shortcuts
    assert len(none)==2 and not none.told.any()
    for i,(p,l) in enumerate(zip(df.path, df.label)):
        im = Image.open(p).convert('RGB')
        if l=='a': im = ImageOps.expand(im.crop((8,8,im.width-8,im.height-8)), 8, (30,0,0)) # a frame of its own
        im.save(tmp_path/f'{i}.png')
    framed = df.assign(path=[str(tmp_path/f'{i}.png') for i in range(len(df))])
    s = audit(framed).shortcuts.set_index('kind')
    assert s.told['border'] and s.auc['border']>.95 and 0<=s.low['border']<=s.auc['border']<=s.high['border']<=1

def test_bad_input(sets, tmp_path):
    df = sets['oct']
    with pytest.raises(DataError, match='no rows'): audit(df[:0])
    with pytest.raises(DataError, match="no column 'path'"): audit(df.drop(columns='path'))
    with pytest.raises(DataError, match='does not exist'): audit(tmp_path/'nowhere.csv')
    (tmp_path/'empty').mkdir()
    with pytest.raises(DataError, match='no images'): audit(tmp_path/'empty')
    with pytest.raises(DataError, match='no column grade'): audit(df, labels='grade')
    with pytest.raises(DataError, match='not a frame'): audit(df, patient='p')
    one = audit(pd.DataFrame({'path':[df.path[0]]}))
    assert not one.leaky and one.summary.found.sum()==0
    with pytest.raises(DataError, match='no pairs'): one.plot_pairs()
    all_missing = audit(pd.DataFrame({'path':['/no/a.png','/no/b.png']}))
    assert len(all_missing.unreadable)==2
    flat = tmp_path/'flat'; flat.mkdir()
    for k in range(3): shutil.copy(df.path[k], flat/f'{k}.jpeg')
    a = audit(flat)
    assert len(a.data)==3 and 'no patients are known' in a.summary.remark[0]
    odd = df.assign(patient=None, split=None, label=None)
    assert not audit(odd).leaky

def test_saved(sets, tmp_path):
    df,pairs,_ = plant(sets['oct'], tmp_path/'p')
    a = audit(df, shortcuts=False); a.save(tmp_path/'out')
    t = pd.read_csv(tmp_path/'out'/'audit.csv')
    assert list(t)==['check','path_a','path_b','patient','split','label','distance','remark']
    assert (t.check=='near duplicate').sum()==len(a.near_duplicates) and (t.check=='unreadable').sum()==3
    j = json.loads((tmp_path/'out'/'audit.json').read_text())
    assert j['source']=='phantom' and j['n_images']==len(df) and {'check','found','of','remark'}==set(j['rows'][0])
    assert 'PHANTOM' in a._repr_html_() and 'PHANTOM' in repr(a)

def test_published_split_of_the_phantom_twin(tmp_path):
    write_kermany(tmp_path/'k', patients=24, size=(124,128))
    df = read_dataset('kermany2018', tmp_path/'k')
    a = audit(df, shortcuts=False)
    both = set(df[df.split=='train'].patient)&set(df[df.split=='test'].patient)
    assert a.leaky and set(a.leaks[a.leaks.split_b.eq('train')|a.leaks.split_a.eq('train')].patient)>=both and both

def test_what_is_asked_of_the_shortcuts():
    "Each class against the rest, two classes once, 0 and 1 as they are; a class that fewer than five patients have is not asked"
    who = [f'p{k//2}' for k in range(40)]
    df = pd.DataFrame(dict(patient=who, grade=np.arange(40)//8, dme=[1.,0]*19+[np.nan]*2, label=['a']*12+['b']*28, rare=['x']*8+['y']*32))
    q = A._questions(df, ['grade'], least=4)
    assert list(q)==[f'grade {k}' for k in range(5)] and all((v==(df.grade==k)).all() for k,v in enumerate(q.values()))
    assert not A._questions(df, ['grade'])
    assert np.array_equal(A._questions(df, ['dme'])['dme'], df.dme, equal_nan=True)
    assert {k:v.tolist() for k,v in A._questions(df, ['label']).items()}=={'b':[0]*12+[1]*28}
    for n,asked in ((20,20), (21,0)): # a number, or a name
        assert len(A._questions(pd.DataFrame(dict(patient=range(210), label=[f'{k%n}x' for k in range(210)])), ['label']))==asked
    assert not A._questions(df, ['rare']) and list(A._questions(df, ['label','dme']))==['a','b','dme']

def test_pairs_go_across_labels_where_one_that_both_know_differs():
    df = pd.DataFrame(dict(path=list('abcd'), patient=list('ppqq'), split=['train',None,'test','train'], x=[1,1,1,1.], y=[0,1,np.nan,0]))
    t = A._pair_table(df, ['x','y'], [0,0,0,2], [1,2,3,3], [0,.1,.2,.3])
    assert t.across.tolist()==['labels','patients, splits','patients','splits']
    assert t[['label_a','label_b','path_a','path_b']].to_numpy().tolist()==[['x','x + y','a','b'],['x','x','a','c'],['x','x','a','d'],['x','x','c','d']]

def test_leaks_are_counted_by_side():
    df = pd.DataFrame(dict(patient=list('aaaabbccdd'), split=['train','train','valid','test','train','train','test',None,'train','valid'], eye=list('LLRLLRLRLL')))
    assert A._leaks(df).to_numpy().tolist()==[['a','test','train',1,2], ['a','test','valid',1,1], ['a','train','valid',2,1], ['d','train','valid',1,1]]
    assert A._split_eyes(df).to_numpy().tolist()==[['a','test, train','valid']]

def test_a_shortcut_is_a_finding(sets, tmp_path):
    "In the table and in the summary; what stays within chance is in neither"
    a = audit(pd.concat([sets['oct'][:2]]*2), shortcuts=False)
    one = dict(kind='metadata', label='DME', auc=.9, low=.8, high=.95, told=True, by='width', images=40, patients=20)
    a.shortcuts = pd.DataFrame([one, one|dict(label='CNV', auc=.6, told=False), one|dict(kind='border', auc=.55, told=False, by='')])
    t = pd.read_csv(a.save(tmp_path)/'audit.csv')
    t = t[t.check.str.startswith('shortcut')]
    assert t[['check','label','remark']].to_numpy().tolist()==[['shortcut: metadata','DME','AUC 0.900 (0.800 to 0.950)']]
    rows = [A._shortcut_row(a.shortcuts, k, 40, True) for k in ('metadata','border')]
    assert rows==[('shortcut: metadata', 1, 2, 'highest AUC 0.90 (0.80 to 0.95) for DME, mostly by width'),
                  ('shortcut: border', 0, 1, 'highest AUC 0.55 (0.80 to 0.95) for DME')]
    assert a.summary.set_index('check').found['byte-identical']==4

def test_the_border_piece_by_piece():
    "The mean of what is dark in twenty pieces, by a plain loop; where a piece is all tissue, the mean of the others"
    rng = np.random.default_rng(0)
    im = np.full((100,100,3), 200, np.uint8)
    for at in ((slice(5),), (slice(97,100),), (slice(None),slice(5)), (slice(None),slice(95,100))): im[at] = rng.integers(0, 15, im[at].shape)
    im[20:40,:5] = 200
    im[97:,30:34] = 255 # burnt out
    def dark(a): return a[(a.mean(-1)<60)|(a.mean(-1)>245)]
    pieces = [im[k:k+5,i:i+20] for k in (0,95) for i in range(0,100,20)]+[im[i:i+20,k:k+5] for k in (0,95) for i in range(0,100,20)]
    want = [dark(o).mean(0) if len(dark(o)) else None for o in pieces]
    rest = np.mean([o for o in want if o is not None], 0)
    assert want[11] is None and sum(o is None for o in want)==1
    got = A.border_colors(im)
    assert np.allclose(got[:60].reshape(20,3), [rest if o is None else o for o in want], atol=1e-4)
    assert np.allclose(got[60:], [len(dark(o))/100 for o in pieces[:10]]) and got[66]==pytest.approx(.6)

def test_search_does_not_depend_on_order(sets):
    "Shuffled rows give the same distance for the same pair"
    df = pd.concat([sets['oct']]*2, ignore_index=True).iloc[:60]
    looks = A._look_at_all(df.path.tolist(), 2)
    o = np.random.default_rng(0).permutation(60)
    p = np.array([(0,1,0),(3,40,1)])
    back = np.argsort(o)
    assert np.allclose(A._distances(looks.fine, p), A._distances(looks.fine[o], np.c_[back[p[:,:2]], p[:,2]]))

def brute(coarse, least):
    "Agreement of all pairs and flips above `least`, one by one"
    z = coarse.reshape(-1,16,16); n = len(z)
    v = {(i,j,f):float((z[i]*flip(z[j])).sum()) for i in range(n) for j in range(i+1, n) for f,flip in enumerate(A._flips)}
    return {k:o for k,o in v.items() if o>least}

@pytest.mark.parametrize('size', [4,7,64])
def test_candidates_are_all_that_agree(sets, size):
    "Blocks, parts and signs give what the plain loop gives, however the blocks are cut and the threads run"
    c = A._look_at_all(sets['fundus'].path.tolist()[:30], 2).coarse
    want = brute(c, .3); assert {k[2] for k in want}=={0,1,2,3} and 20<len(want)<4*30*29/2
    for workers in (1,3):
        pairs,v,cut = A._candidates(c, least=.3, workers=workers, size=size)
        got = dict(zip(map(tuple, pairs.tolist()), v))
        assert got.keys()==want.keys() and cut==.3 and len(got)==len(pairs)
        assert all(abs(got[k]-want[k])<1e-5 for k in want)

@pytest.mark.parametrize('most', [1,10,25])
def test_most_keeps_the_best(sets, most):
    c = A._look_at_all(sets['fundus'].path.tolist()[:30], 2).coarse
    want = sorted(brute(c, .3).items(), key=lambda o: -o[1])
    pairs,v,cut = A._candidates(c, most=most, least=.3, size=8)
    assert {tuple(o) for o in pairs.tolist()}=={k for k,_ in want[:most]}
    assert abs(cut-want[most][1])<1e-5 and (v>cut).all()

def test_what_was_not_compared_is_told(sets):
    df = sets['fundus']
    def remark(**kw): return audit(df, shortcuts=False, **kw).summary.set_index('check').remark['near duplicates']
    assert remark()=='' and 'compared where alike above 0.' in remark(most=5)

def test_every_eighth_row_is_a_fair_sample(sets, tmp_path):
    "In all four flips: a copy is as near by every eighth row as by all, a stranger as far"
    im = Image.open(sets['fundus'].path[0]).convert('RGB')
    ways = [im, ImageOps.mirror(im), ImageOps.flip(im), ImageOps.flip(ImageOps.mirror(im))]
    paths = [sets['fundus'].path[0]]
    for k,o in enumerate(ways): o.save(tmp_path/f'{k}.jpg', quality=60); paths.append(str(tmp_path/f'{k}.jpg'))
    fine = A._look_at_all([*paths, sets['fundus'].path[4]], 2).fine
    copies = np.array([(0,k+1,k) for k in range(4)]); strangers = np.array([(0,5,k) for k in range(4)])
    assert (A._distances(fine, copies)<.2).all() and np.abs(A._distances(fine, copies, 8)-A._distances(fine, copies)).max()<.05
    assert (A._distances(fine, strangers, 8)>.7).all()

def test_copy_that_differs_coarsely(sets, tmp_path):
    "Copies burnt out on one side agree less than .9 with their picture, and are found: nothing hangs on a narrow search"
    rows,agree = [],[]
    for k,p in enumerate(sets['fundus'].path[:12]):
        a = np.asarray(Image.open(p).convert('RGB')).astype(float)
        to = tmp_path/f'{k}.jpg'; Image.fromarray(np.clip(a*np.linspace(.8, 2.6, a.shape[1])[:,None], 0, 255).astype(np.uint8)).save(to)
        rows.append((p, str(to)))
    df = pd.DataFrame({'path':sets['fundus'].path.tolist()+[b for _,b in rows]})
    c = A._look_at_all([o for r in rows for o in r], 2).coarse; agree = (c[::2]*c[1::2]).sum(1)
    assert (agree<.9).sum()>=6 and agree.min()>.6
    found = {(o.path_a, o.path_b) for o in audit(df, shortcuts=False).pairs().itertuples()}
    assert found==set(rows)

def test_dark_and_compressed_again(sets, tmp_path):
    "Pictures with a seventh of the light, saved once more at quality 75; with an index and one bound for all, 12 of these 20 were found"
    rows = []
    for k,p in enumerate(sets['fundus'].path[:20]):
        dark,again = tmp_path/f'{k}.png',tmp_path/f'{k}.jpg'
        im = Image.open(p).convert('RGB').point(lambda v: v*.15); im.save(dark); im.save(again, quality=75)
        rows.append((str(dark), str(again)))
    a = audit(pd.DataFrame({'path':[o for r in rows for o in r]}), shortcuts=False)
    found = {tuple(sorted((o.path_a, o.path_b))) for o in a.pairs().itertuples()}
    want = {tuple(sorted(r)) for r in rows}
    print(f"dark and recompressed: {len(found&want)} of {len(want)}, invented {len(found-want)}; dark {len(a.dark)}")
    assert found<=want and len(found)>=17 and len(a.dark)==40

def test_distance_allowed_follows_agreement():
    assert A._limit(np.array([.74,.75,.95,.96]), .3).round(6).tolist()==[.21,.3,.3,.45]

def test_same_bytes(tmp_path):
    for n,b in dict(a=b'one', b=b'two', c=b'one', d=b'three', e=b'two', f=b'one').items(): (tmp_path/n).write_bytes(b)
    paths = [tmp_path/n for n in 'abcdef']
    assert sorted(same_bytes(paths))==sorted(same_bytes(map(str, paths), workers=1))==[[0,2,5],[1,4]]
    assert same_bytes(paths, [3,3,3,5,3,np.nan])==[[0,2],[1,4]] and same_bytes([])==[]
    with pytest.raises(DataError, match='gone'): same_bytes([tmp_path/'gone', paths[0]])

def test_a_volume_is_read_once(tmp_path, monkeypatch):
    for n in 'ab': (tmp_path/f'{n}.e2e').write_bytes(b'one')
    paths,asked,real = [f'{tmp_path}/{n}.e2e::{k}' for n in 'ab' for k in range(3)],[],A.sha256
    monkeypatch.setattr(A, 'sha256', lambda p: asked.append(p) or real(p))
    monkeypatch.setattr(A, 'file_and_frame', lambda p: (p.split('::')[0], int(p.split('::')[1])))
    assert same_bytes(paths)==[[0,3],[1,4],[2,5]] and len(asked)==2

def test_labels_whose_known_rows_are_of_one_class(sets):
    "are asked nothing: no crash"
    df = pd.concat([sets['fundus'][:16]]*3, ignore_index=True).assign(patient=[f'p{k}' for k in range(48)])
    df['a'],df['b'] = [1.]*6+[np.nan]*6+[0]*36,[np.nan]*6+[1.]*6+[0]*36
    assert not len(audit(df, labels=['a','b']).shortcuts)

def test_what_one_of_a_pair_knows_is_written(sets, tmp_path):
    p = sets['oct'].path[0]
    df = pd.DataFrame(dict(path=[p, shutil.copy(p, tmp_path/'copy.jpg')], patient=['x','y'], split=['train',None], label=['CNV',None]))
    o = pd.read_csv(audit(df, shortcuts=False).save(tmp_path/'o')/'audit.csv').iloc[0]
    assert (o.check,o.patient,o.split,o.label)==('exact duplicate','x | y','train | ?','CNV | ?')

def test_deep_trees_and_broken_files_are_audited_without_a_word_of_labels(sets, tmp_path, capsys):
    for k in range(4): (f := tmp_path/f'100{k//2}/2021-01-0{k%2+1}/OD.jpg').parent.mkdir(parents=True); shutil.copy(sets['fundus'].path[k], f)
    (tmp_path/'1000/2021-01-01/OS.jpg').write_bytes(b'broken')
    a = audit(tmp_path, shortcuts=False, skip_broken=True)
    assert (len(a.data),len(a.unreadable))==(5,1) and 'without labels' in capsys.readouterr().err

def test_a_table_without_a_word_of_its_label(sets, tmp_path, capsys):
    "`fundus check` found the column of grades, and `audit` of the same table asked for --label"
    df = sets['fundus'].head(4)
    table = pd.DataFrame(dict(image=[os.path.abspath(p) for p in df.path], patient=df.patient, grade=[0,1,0,1]))
    table.to_csv(tmp_path/'t.csv', index=False)
    assert audit(tmp_path/'t.csv', shortcuts=False).data.label.tolist()==['0','1','0','1']
    assert "labels are read from the column 'grade'" in capsys.readouterr().err
    table.rename(columns=dict(grade='mine')).to_csv(tmp_path/'t.csv', index=False)
    with pytest.raises(DataError, match=r't\.csv: no column is called label, .*`label=COL` .perhaps mine'): audit(tmp_path/'t.csv')

REAL = {'odir5k':('near',{'352_right.jpg 973_right.jpg','352_left.jpg 973_left.jpg','2365_left.jpg 3047_left.jpg','54_right.jpg 831_right.jpg',
            '719_right.jpg 821_right.jpg','719_left.jpg 821_left.jpg','4105_right.jpg 4484_right.jpg','1309_left.jpg 3078_left.jpg'}),
        'fundus_dme':('near',{'0003_OI_f_1.jpg 0474_OI_f_1.jpg','1227_OI_f_3.jpg 1227_OI_f_4.jpg', # and eyes photographed twice at one sitting
            '1314_OI_f_3.jpg 1314_OI_f_4.jpg','1314_OD_f_1.jpg 1314_OD_f_2.jpg','1227_OD_f_1.jpg 1227_OD_f_2.jpg','1249_OI_f_1.jpg 1249_OI_f_4.jpg','1304_OI_f_1.jpg 1304_OI_f_2.jpg',
            '0743_OI_f_1.jpg 0981_OI_f_1.jpg','0619_OD_f_1.jpg 1073_OI_f_1.jpg'}), 'oct_dme':('near',set())}

def test_a_folder_of_hospital_files_without_classes(tmp_path, capsys):
    "Patients, eyes and ages stood in the headers: no patients were known, and volumes were unreadable"
    import dicoms # skips where pydicom is not installed
    for k,(who,side,n) in enumerate([('A','L',3), ('A','R',1), ('B','L',2), ('','R',2)]):
        dicoms.write(tmp_path/f'v{k}.dcm', dicoms.scans(n, seed=9*k), PatientID=who, Laterality=side, BurnedInAnnotation='NO')
    df = open_frame(tmp_path, {})
    a,b = map(patient_digest, 'AB')
    assert df.patient.tolist()==[a]*4+[b]*2+['v3.dcm']*2 and df.eye.tolist()==list('LLLRLLRR') and df.age.notna().all()
    assert 'patients of 8 images are told by their files' in capsys.readouterr().err
    assert not len(audit(df, shortcuts=False).unreadable)

def test_names_tell_the_patients_that_no_header_does(tmp_path, capsys):
    import dicoms
    dicoms.write(tmp_path/'x1.dcm', dicoms.scans(1), PatientID='A', BurnedInAnnotation='NO')
    for o in ('7_left.png','7_right.png'): Image.fromarray(phantom_fundus(seed=1, size=64).image).save(tmp_path/o)
    df = open_frame(tmp_path, {}).set_index('path')
    assert sorted(df.patient)==sorted([patient_digest('A'), '7', '7']) and sorted(df.eye)==['L','L','R']

@pytest.mark.parametrize('name,title', [('odir5k','ODIR-5K, photographs'), ('fundus_dme','DME, photographs')])
def test_the_lesson_tells_what_was_found(name, title):
    "Its table has the pairs that people have looked at"
    row = next(o for o in (ROOT/'nbs'/'lessons'/'08_did_the_patient_leak.ipynb').read_text(encoding='utf-8').splitlines() if title in o)
    pairs = [o.split() for o in REAL[name][1]]
    other = sum(a.split('_')[0]!=b.split('_')[0] for a,b in pairs)
    assert f"{len(pairs)} pairs, {'all' if other==len(pairs) else other} across patients" in row

@pytest.mark.slow
@pytest.mark.parametrize('name', REAL)
def test_real(test_data, name):
    "On real images: the copies that people have looked at, and no scan of one eye taken for a scan of another"
    data = test_data/name if name=='odir5k' else test_data/name/'labels.csv'
    opts = {} if name=='odir5k' else dict(label='DME', patient='patient_id')
    a = audit(data, shortcuts=False, **opts)
    got = {f'{os.path.basename(o.path_a)} {os.path.basename(o.path_b)}' for o in a.near_duplicates.itertuples()}
    assert got==REAL[name][1] and 'compared' not in ' '.join(a.summary.remark)
    if name!='odir5k': assert len(a.exact_duplicates)==8

def test_labels_that_nobody_knows(sets):
    "0/1 columns with missing values, as of eyes that only have a remark about the picture"
    df = sets['fundus'][:12].copy(); df.attrs = sets['fundus'].attrs
    labels = list(df.attrs['labels'])
    df[labels] = df[labels].astype('Int64')
    df.loc[df.index[:3], labels] = pd.NA
    a = audit(pd.concat([df, df[:4]]), labels=labels, shortcuts=False)
    pairs = a.exact_duplicates
    assert len(pairs)==4 and pairs.label_a.isna().sum()==3 and not len(a.conflicts)

def test_the_first_are_named_and_the_rest_is_told(sets, tmp_path):
    df = sets['oct'][:3].copy(); df.attrs = sets['oct'].attrs
    for k in range(6): (tmp_path/f'broken{k}.png').write_text('no image')
    more = pd.concat([df, pd.DataFrame([df.iloc[0].to_dict()|dict(path=str(tmp_path/f'broken{k}.png')) for k in range(6)])])
    said = repr(audit(more, shortcuts=False))
    assert 'unreadable: broken0.png, broken1.png, broken2.png and 3 more' in said and 'audit.csv' in said
    assert 'audit.csv' not in repr(audit(sets['oct'], shortcuts=False)), "nothing found, nothing to tell"

def test_what_was_not_checked_is_no_pass(sets):
    "A zero stands only where something was looked for; a patient of one image each is a patient"
    few = sets['oct'].drop_duplicates('patient')[:8].copy()
    t = audit(few).summary.set_index('check').remark
    assert t['patients on two sides']=='' and t['shortcut: border']=='not checked: fewer than 30 images that can be read'
    bare = audit(few[['path']])
    t = bare.summary.set_index('check').remark
    assert t['patients on two sides']=='not checked: no split; no patients are known: each image counts as its own' and t['eyes of a patient on two sides'].startswith('not checked')
    assert 'no patients are known' in audit(few[['path','split']]).summary.remark[0]
    assert "  - " in repr(bare) and audit(few, shortcuts=False).summary.remark.iloc[-1]=='not checked: not asked for'

def test_a_strange_file_does_not_stop_an_audit(sets, monkeypatch):
    look,bad = A._look,sets['oct'].path[2]
    def strange(path):
        if path==bad: raise TypeError('Missing dimensions')
        return look(path)
    monkeypatch.setattr(A, '_look', strange)
    a = audit(sets['oct'][:6], shortcuts=False)
    assert a.unreadable.path.tolist()==[bad] and 'Missing dimensions' in a.unreadable.problem[0]

@pytest.mark.skipif(not Path('/dev/full').exists(), reason='no device that is always full')
def test_no_room_for_what_is_compared_is_told(sets, monkeypatch):
    "It lay in a file of holes: without room for them the program died of a bus error, and said nothing"
    monkeypatch.setattr(A.tempfile, 'TemporaryFile', lambda: open('/dev/full', 'r+b', buffering=0))
    with pytest.raises(DataError, match='0.1 MB are needed in .*TMPDIR'): audit(sets['oct'][:6], shortcuts=False)

def test_paths_are_as_seen_from_the_data(sets, tmp_path):
    "Nothing that is written says where the data lie on this machine"
    df,_,_ = plant(sets['oct'], tmp_path/'p')
    loose = pd.DataFrame({'path':df.path.unique()}) # a frame that knows no folder, and no patients
    for k,d in enumerate((df,loose)):
        out = audit(d, shortcuts=False).save(tmp_path/f'out{k}')
        for f in ('audit.csv','audit.json'):
            text = (out/f).read_text()
            assert str(tmp_path) not in text and os.path.dirname(sets['oct'].path[0]) not in text, f
        t = pd.read_csv(out/'audit.csv')
        assert not t[['path_a','path_b','patient']].stack().dropna().astype(str).map(os.path.isabs).any()
    assert any(o.endswith('/p/broken.jpg') for o in t.patient.dropna()) and not any(o[0]=='.' for o in t.path_a.dropna())

def test_an_audit_written_before_stays_readable(sets, tmp_path):
    "The report reads audit.json alone, with absolute paths or without"
    from fundus_fastai.core import read_json, write_json
    from fundus_fastai.run.report import audit_rows
    out = audit(sets['oct'][:4], shortcuts=False).save(tmp_path)
    now = audit_rows(read_json(out/'audit.json'))
    write_json(out/'audit.json', dict(rows=[dict(check='unreadable', found=1, of=4, remark='/home/a/b.png')]))
    assert list(now)==list(audit_rows(read_json(out/'audit.json')))

def test_copies_that_contradict_each_other_are_named_with_their_labels(sets, tmp_path):
    df = sets['oct']; row = df.iloc[0].to_dict()|dict(path=shutil.copy(df.path[0], tmp_path/'again.jpg'), label='other')
    more = pd.concat([df[:6], pd.DataFrame([row])], ignore_index=True); more.attrs = df.attrs
    a = audit(more, shortcuts=False)
    said = f"{os.path.basename(df.path[0])} ({df.label[0]}) = again.jpg (other)"
    rows = {o['check']:o['remark'] for o in json.loads((a.save(tmp_path/'o')/'audit.json').read_text())['rows']}
    assert f'same image, other label: {said}' in repr(a) and said in a._repr_html_() and said in rows['same image, other label']

@pytest.mark.parametrize('name,what', [('Neumann_Anna_OD.jpg','name'), ('clinic/NEUMANN, Karl/1.jpg','name'), ('ŠIMKOVÁ Eva.png','name'), ('AnnaNeumann.png','name'),
    ('ZHANG^WEI^^_2.png','name'), ('p_1961-04-02.jpg','date'), ('02.04.1961 re.jpg','date'), ('19610402.jpg','date'), ('CNV-1016042-1.jpeg','number'), ('MRN00123456.png','')])
def test_names_that_tell(name, what):
    said = A.telling_names([name]).iloc[0]
    assert what in said if what else not said

def test_what_is_found_is_named_so_that_it_can_be_told_apart(tmp_path):
    "OS.png of several folders by its place; a date by the folder that holds it"
    for o in ('1/OS.png','2/OS.png','2021-03-05/p.png'): (tmp_path/o).parent.mkdir(); Image.fromarray(np.zeros((64,64,3), np.uint8)).save(tmp_path/o)
    a = audit(pd.DataFrame(dict(path=[str(o) for o in sorted(tmp_path.rglob('*.png'))], patient='p')), shortcuts=False)
    assert 'blank: 1/OS.png, 2/OS.png, p.png' in repr(a) and 'privacy: file names: 2021-03-05/p.png' in repr(a) and '3 images of 1 patient\n' in repr(a)
    assert a.telling.remark.tolist()==['a date in a folder: 2021-03-05']

def test_names_that_tell_nothing():
    harmless = ['10_left.jpeg','IMG_0001.JPG','DSC01234.jpg','000123.png','Right Eye Fundus.tif','OD_Macula.jpg','Normal Fundus 3.png',
        '1.2.840.113619.2.5.1762583153.215519.978957063.78.jpg','2.25.338984938493849384938493.png','d41d8cd98f00b204e9800998ecf8427e.png',
        'e4eaaf2a-d142-11b3-80e4-080027620cdd.jpg','train/CNV/CNV-18-1.jpeg','Diabetic_Retinopathy/7.jpg','image 12 (2).png','a_b_c.png','12345.jpg','IDRiD_001.jpg']
    assert A.telling_names(harmless).tolist()==['']*len(harmless)
    many = [f'Kyoto Daigaku {k}.png' for k in range(40)]
    assert not A.telling_names(many).any() and A.telling_names(many[:3]).all(), "what stands in every name names nobody"
    assert not A.telling_names([f'{k}.png' for k in range(60_000, 120_000)]).any(), "numbers that count the files"
    assert not A.telling_names(['Coats Telangiectasis/1.png'], known=['Coats telangiectasis']).any(), "a class"

def test_names_that_tell_are_a_remark(sets, tmp_path):
    rows = [sets['oct'].iloc[k].to_dict()|dict(path=shutil.copy(sets['oct'].path[k], tmp_path/f)) for k,f in enumerate(('Neumann_Anna.jpg','p1016042.jpg','ok.jpg'))]
    a = audit(pd.DataFrame(rows), shortcuts=False)
    r = a.summary.set_index('check').loc['privacy: file names']
    assert (r.found,r['of'])==(2,3) and not a.leaky and 'perhaps a name' in r.remark and 'a long number' in r.remark
    assert 'privacy: file names: Neumann_Anna.jpg, p1016042.jpg' in repr(a)
    t = pd.read_csv(a.save(tmp_path/'o')/'audit.csv')
    assert t[t.check=='privacy: file names'].remark.tolist()==['perhaps a name: Neumann Anna', 'a long number: 1016042']

def test_a_camera_note_is_obeyed(sets, tmp_path):
    "A copy that lies on its side and says so stands upright, as for training: one opener"
    im,e = Image.open(sets['fundus'].path[0]).convert('RGB'),Image.Exif()
    turns = {2:Image.FLIP_LEFT_RIGHT, 3:Image.ROTATE_180, 6:Image.ROTATE_90, 8:Image.ROTATE_270}
    for k,o in turns.items():
        e[274] = k
        im.transpose(o).save(tmp_path/f'{k}.jpg', quality=92, exif=e); im.transpose(o).save(tmp_path/f'{k}.png', exif=e)
    looks = A._look_at_all([sets['fundus'].path[0], *map(str, sorted(tmp_path.iterdir()))], 2)
    assert looks.facts.problem.isna().all() and len(looks.coarse)==9
    assert (looks.coarse[1:]@looks.coarse[0]).min()>.95

def test_what_the_audit_refuses_training_refuses(sets, tmp_path):
    from fundus_fastai.image.read import check_images
    im = np.array(Image.open(sets['fundus'].path[0]).convert('RGB'))
    Image.fromarray(np.dstack([im, np.zeros_like(im[...,0])])).save(tmp_path/'clear.png')
    Image.fromarray(im.astype(np.uint16)[...,0]*200).save(tmp_path/'deep.png')
    Image.fromarray(im[:8]).save(tmp_path/'flat.png'); (tmp_path/'half.jpg').write_bytes(Path(sets['fundus'].path[0]).read_bytes()[:3000])
    paths = [*map(str, sorted(tmp_path.iterdir())), sets['fundus'].path[1]]
    a = audit(pd.DataFrame({'path':paths}), shortcuts=False).unreadable
    bad = check_images(paths)
    assert a[['path','problem']].values.tolist()==bad[['path','problem']].values.tolist() and len(bad)==4

def test_many_unreadable_files_take_few_lines(tmp_path, capsys):
    df = pd.DataFrame({'path':[str(tmp_path/f'{k}.png') for k in range(5000)], 'patient':[f'p{k}' for k in range(5000)]})
    a = audit(df, shortcuts=False)
    text = repr(a)+a._repr_html_()+capsys.readouterr().out
    assert text.count('.png')==6 and '0.png, 1.png, 10.png and 4997 more' in text
    assert (a.save(tmp_path/'o')/'audit.json').stat().st_size<5000 and len(pd.read_csv(tmp_path/'o'/'audit.csv'))==5000

TURNS = {'quarter':(lambda im: im.transpose(Image.ROTATE_90), 90, False), 'half':(lambda im: im.transpose(Image.ROTATE_180), 180, False),
         '10 degrees':(lambda im: im.rotate(-10, resample=Image.BICUBIC), -10, False), 'cropped':(lambda im: im.crop([round(o*k) for o,k in zip(im.size*2, (.08,.08,.92,.92))]), 0, False),
         'one side cropped':(lambda im: im.crop((0,0,round(.92*im.width),im.height)), 0, False), 'padded':(lambda im: ImageOps.expand(im, (im.width//6,0)), 0, False),
         'in a square':(lambda im: ImageOps.pad(im.crop((0,20,im.width,im.height-20)), (300,300)), 0, False), 'mirrored':(lambda im: ImageOps.mirror(im).rotate(17), 17, True)}

@pytest.mark.parametrize('name', TURNS)
@pytest.mark.parametrize('n', [1, 48])
def test_copies_in_any_turn(sets, tmp_path, name, n):
    "In a set of few and in a set of many; the turn is told, and nothing is invented"
    f,turn,mirrored = TURNS[name]
    df = sets['fundus'][:n]
    planted = {(df.path[k], str(tmp_path/f'{k}.jpg')) for k in range(min(n, 6))}
    for p,to in planted: f(Image.open(p).convert('RGB')).save(to, quality=90)
    a = audit(pd.DataFrame({'path':[*df.path, *(o for _,o in planted)]}), shortcuts=False)
    assert {(o.path_a,o.path_b) for o in a.pairs().itertuples()}==planted
    t = a.near_duplicates
    if name=='half': assert t.turned.isna().all() and t.mirrored.all(), "two flips, which the search without turns finds"
    elif name!='in a square': assert ((t.turned-turn).abs()<3).all() and (t.mirrored==mirrored).all()

def test_a_turn_is_told(sets, tmp_path):
    Image.open(sets['fundus'].path[0]).transpose(Image.ROTATE_90).save(tmp_path/'a.png')
    ImageOps.expand(Image.open(sets['fundus'].path[4]), (50,0)).save(tmp_path/'b.png')
    a = audit(pd.DataFrame({'path':[sets['fundus'].path[0], sets['fundus'].path[4], str(tmp_path/'a.png'), str(tmp_path/'b.png')], 'patient':['p','q','p','q']}), shortcuts=False)
    t = pd.read_csv(a.save(tmp_path/'o')/'audit.csv')
    assert set(t.remark)=={'turned by 90°','cropped or padded'} and '2 pairs, 1 turned, 1 cropped or padded' in repr(a)
    fig = a.plot_pairs()
    said = [o.get_text() for ax in fig.axes for o in ax.texts]
    assert any('turned by 90°' in o for o in said) and any('cropped or padded' in o for o in said)
    fig.draw_without_rendering()
    a,b,c = [ax.get_window_extent() for ax in fig.axes if ax.images][:3]
    assert b.x0-a.x1<c.x0-b.x1, "what is a pair is to be seen"

def test_scans_have_no_round_field(sets):
    "B-scans are not asked for turns, and that is said"
    for kind,n in (('oct', len(sets['oct'])), ('fundus', 0)):
        said = audit(sets[kind], shortcuts=False).summary.set_index('check').remark['near duplicates']
        assert (f'turned or cropped ones not sought among {n} without a round field' in said)==(n>0)

def test_eyes_that_look_mirrored(sets, tmp_path):
    "A picture that was mirrored is a suspicion, no error; the rest of the eyes are not; nothing is asked where no eye is named"
    df = sets['fundus'].copy(); df.attrs = sets['fundus'].attrs
    assert not len(audit(df, shortcuts=False).mirrored)
    disc = A._look_at_all(df.path.tolist(), 2).disc
    some = sorted(np.flatnonzero(np.abs(disc)>2)[:3], key=str) # as files are
    for k in some:
        ImageOps.mirror(Image.open(df.path[k])).save(tmp_path/f'{k}.jpg', quality=92)
        df.loc[k, 'path'] = str(tmp_path/f'{k}.jpg')
    a = audit(df, shortcuts=False)
    row = a.summary.set_index('check').loc['eyes that look mirrored']
    assert set(a.mirrored.path)=={str(tmp_path/f'{k}.jpg') for k in some} and row.found==3<row['of'] and 'suspicions' in row.remark and not a.leaky
    t = pd.read_csv(a.save(tmp_path/'o')/'audit.csv')
    side = {'R':'named right, the disc seems left','L':'named left, the disc seems right'}
    assert t[t.check=='eyes that look mirrored'].remark.tolist()==df.eye[some].map(side).tolist() and 'eyes that look mirrored: '+', '.join(f'{k}.jpg' for k in some) in repr(a)
    for o in (df.drop(columns='eye'), sets['oct'].assign(eye='R')):
        row = audit(o, shortcuts=False).summary.set_index('check').loc['eyes that look mirrored']
        assert row.found==row['of']==0 and row.remark.startswith('not checked')

def test_no_answer_where_nothing_is_seen():
    "Fog with noise is no eye, and a flat field has no side"
    for k in range(20):
        x = np.random.default_rng(k).normal(90, 1, (128,128)).astype(np.float32)
        t,asked = A._mirrored(pd.DataFrame(dict(path=['a'], patient=['p'], split=None, eye=['R'])), np.array([disc_side(x)]))
        assert asked==len(t)==0
    assert disc_side(np.full((128,128), 77, np.float32))==0

@pytest.mark.filterwarnings('error')
def test_saving_warns_of_nothing(sets, tmp_path):
    "Of a set in which nothing is found, and of one where something is"
    for k,df in enumerate((sets['oct'][:4], pd.concat([sets['oct'][:4]]*2))): audit(df, shortcuts=False).save(tmp_path/str(k))

def test_one_person_under_two_spellings_in_train_and_test(tmp_path):
    for o in ('train/007_left.png','test/7_OD.png'):
        (tmp_path/o).parent.mkdir()
        Image.fromarray(np.random.default_rng(len(o)).integers(0, 255, (64,64,3), np.uint8)).save(tmp_path/o)
    a = audit(tmp_path, shortcuts=False)
    assert a.leaky and len(a.leaks.patient.unique())==1 and set(a.data.eye)=={'L','R'}

@pytest.mark.parametrize('name,leaky,said', [('00001_{}_OD.png',True,'without dates and visits: 00001 of 00001_'), ('{}/visit1_OD.png',False,'equal names in several folders tell no patient: visit1_OD.png')])
def test_names_with_dates_and_equal_names_in_folders_of_patients(tmp_path, name, leaky, said, capsys):
    for k,o in enumerate((f"train/{name.format('20210301')}", f"test/{name.format('20230510')}")):
        (tmp_path/o).parent.mkdir(parents=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (64,64,3), np.uint8)).save(tmp_path/o)
    a = audit(tmp_path, shortcuts=False)
    assert a.leaky==leaky and said in capsys.readouterr().err and set(a.data.eye)=={'R'} and a.data.patient.nunique()==2-leaky

def test_pictures_in_train_and_test_without_classes(sets, tmp_path, capsys):
    "The folders tell the split, and names such as 7_left whose eyes they are"
    own = sets['fundus'].path.tolist()[:6]
    for side,names in dict(train=('1_left','2_left','3_right'), test=('1_right','4_left','5_left')).items():
        (tmp_path/side).mkdir()
        for k,n in enumerate(names): shutil.copy(own[k if side=='train' or k<2 else 3], tmp_path/side/f'{n}.jpg')
    a = audit(A.open_frame(str(tmp_path), {}), shortcuts=False)
    assert a.leaky and set(a.leaks.patient)=={'1'} and 'without labels' in capsys.readouterr().err
    assert a.exact_duplicates.shape[0]==2
    for o in tmp_path.rglob('*_*.jpg'): o.rename(o.with_name(f'picture{o.stem[0]}{o.stem[-1]}.jpg'))
    b = audit(A.open_frame(str(tmp_path), {}), shortcuts=False)
    assert b.leaky and not len(b.leaks) # a picture on both sides, of nobody who is known

def test_copies_that_are_known_are_not_turned(tmp_path, monkeypatch):
    "Each pair of copies was fitted once more, and forgotten: 60 copies had taken seven times as long"
    rng,im = np.random.default_rng(0),phantom_fundus(seed=3, size=256).image.astype(int)
    for i in range(6): Image.fromarray((im+rng.integers(-3, 4, im.shape)).clip(0, 255).astype(np.uint8)).save(tmp_path/f'{i}.png')
    Image.fromarray(im.astype(np.uint8)).rotate(30, resample=Image.BICUBIC).save(tmp_path/'6.png')
    tried,fit = [],A._aligned
    monkeypatch.setattr(A, '_aligned', lambda *args: tried.append(1) or fit(*args))
    t = audit(pd.DataFrame({'path':[f'{tmp_path}/{i}.png' for i in range(7)], 'patient':list('abcdefg')}), shortcuts=False).near_duplicates
    assert len(tried)==6 and len(t)==21 and (t.turned.abs().dropna()==30).all() and t.turned.notna().sum()==6
