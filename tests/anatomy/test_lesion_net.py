"The lesion net: where its spots lie, on phantoms and in any frame, and a reason for whatever shows no fundus"
import errno, json, shutil
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
import cv2, numpy as np, pandas as pd, pytest, torch
from fundus_fastai.anatomy import lesion_net as page
from fundus_fastai.anatomy.lesion_net import COLUMNS, FINE, SIDE, LesionFrame, LesionNet, RunFinder, color_contrast, find_lesions, lesion_maps, lesion_net, lesion_table, spots
from fundus_fastai.cli import main
from fundus_fastai.core import DataError
from fundus_fastai.explain.lesions import match_lesions
from fundus_fastai.phantom.fundus import LESION_CODES, phantom_fundus, save_fundus
from fundus_fastai.vision.answers import RowFile
from fundus_fastai.vision.data import eye_dls
from fundus_fastai.vision.learner import eye_learner
from fundus_fastai.vision.model import save_model
from nets import tiny

cv2.setNumThreads(1)

@pytest.fixture(scope='module')
def eyes():
    "Phantoms with retinopathy, and what is found in them"
    e = [phantom_fundus(['diabetic retinopathy'], 31, k, grade=3+k%2, eye='RL'[k%2], size=448) for k in range(1, 6)]
    return e,[find_lesions(o.image) for o in e]

def sensitivity(e, dets, k, fp):
    "Share of the lesions of type `k` that are found at `fp` false alarms a picture"
    truth = [{c:o.masks.get(v, np.zeros(o.image.shape[:2], bool)) for c,v in LESION_CODES.items()} for o in e]
    s = match_lesions(dets, truth).search(k)
    n = int(fp*len(e))
    return np.mean(s.best>(s.alarms[n] if n<len(s.alarms) else -np.inf))

@pytest.mark.parametrize('k,least', [('MA',.6), ('HE',.75), ('EX',.8), ('SE',.7)])
def test_lesions_of_phantoms_are_found(eyes, k, least):
    assert sensitivity(*eyes, k, 4)>=least

def test_places_beat_chance(eyes):
    "The same scores at places by lot find next to nothing"
    e,dets = eyes
    rng,lot = np.random.default_rng(0),[]
    for o in dets:
        lot.append(o.assign(x=rng.permutation(o.x), y=rng.permutation(o.y)))
        lot[-1].attrs = o.attrs
    assert sensitivity(e, lot, 'HE', 4)<.35<sensitivity(e, dets, 'HE', 4)

def strong(df): return df[(df.score>.8)&(df.type=='HE')]

def nearest(a, b): return np.array([np.hypot(b.x-x, b.y-y).min() for x,y in zip(a.x, a.y)])

def test_pixels_are_those_of_the_photograph(eyes):
    "On a larger canvas, mirrored, and at twice the size, spots lie where they should"
    im,o = eyes[0][0].image,strong(eyes[1][0])
    wide = cv2.copyMakeBorder(im, 30, 10, 50, 20, cv2.BORDER_CONSTANT, value=[int(im[0,0,0])]*3)
    w = strong(find_lesions(wide))
    assert np.median(nearest(o.assign(x=o.x+50, y=o.y+30), w))<1.5
    m = strong(find_lesions(np.ascontiguousarray(im[:,::-1])))
    assert np.median(nearest(o.assign(x=im.shape[1]-1-o.x), m))<1.5
    t = strong(find_lesions(cv2.resize(im, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)))
    assert np.median(nearest(o.assign(x=2*o.x+.5, y=2*o.y+.5), t))<3
    assert 1.6<t.radius.median()/o.radius.median()<2.4

def test_frame_there_and_back():
    o = phantom_fundus([], 4, 2, camera='clipped', size=300)
    f = LesionFrame(o.image)
    x,y = f.back(np.array([0,639]), np.array([0,639]))
    assert abs(x[1]-x[0]-(639*f.k[0]))<1e-9 and f.mask.mean()>.4
    f = LesionFrame(cv2.resize(phantom_fundus([], 4, 2, camera='round', size=300).image, (300,230))) # squeezed: two scales
    assert abs(f.k[1]/f.k[0]-1)>.1 and np.allclose(f.there((*f.back(50., 600.), 9, 9, 0))[:2], (50,600))

def test_a_mirrored_eye_has_mirrored_maps():
    "It is asked both ways, so it says the same of both (the spread of the contrast is taken at other pixels)"
    im = phantom_fundus(['diabetic retinopathy'], 31, 3, grade=3, size=300).image
    f,fine = (LesionFrame(im, o) for o in (SIDE,FINE))
    g,mirrored = (SimpleNamespace(image=o.image[:,::-1], mask=o.mask[:,::-1]) for o in (f,fine))
    a,b = lesion_maps(f, fine, lesion_net()),lesion_maps(g, mirrored, lesion_net())
    assert a.max()>.8 and np.abs(a[0]-b[0,:,::-1]).max()<.05
    assert all(np.corrcoef(x.ravel(), y[:,::-1].ravel())[0,1]>.95 for x,y in zip(a, b))

class Drawn(torch.nn.Module):
    "A net whose logits are those of a map drawn in the left upper corner, of all types and of vessels"
    def __init__(self, vessels): super().__init__(); self.vessels = torch.nn.Parameter(torch.tensor(float(vessels)))
    def forward(self, x):
        out = torch.full((len(x),6,x.shape[2]//2,x.shape[3]//2), -9.)
        out[:,:4,:out.shape[2]//4,:out.shape[3]//4] = 2.
        out[:,4] = self.vessels
        return out

def test_what_lies_on_vessels_is_less_likely_blood():
    "A net that knows no mirror: its own corner and the mirrored one, by their shares; blood falls by the vessel"
    im = phantom_fundus([], 31, 3, camera='round', size=300).image
    f,fine = (LesionFrame(im, o) for o in (SIDE,FINE))
    off,on = (torch.logit(torch.from_numpy(lesion_maps(f, fine, Drawn(v)))) for v in (-30,3.))
    assert np.allclose(off[0,[9,9],[9,-9]], [-3.5,-3.5], atol=.01), 'microaneurysms: the small square, both ways'
    assert np.allclose(off[1:,9,9], (-3.5-9)/2, atol=.01) and np.allclose(off[1:,9,-9], (-3.5+2)/2, atol=.01)
    less = np.log1p(np.exp(3.))
    assert np.allclose(off[:2]-on[:2], less, atol=.05) and np.allclose(off[2:], on[2:], atol=.01)

def test_spots_of_a_map():
    "Of two discs the middles, areas and heights are found; a third in the rim of the field, and what is nothing, are not"
    m,mask = np.zeros((320,320), np.float32),np.zeros((640,640), bool)
    mask[20:620,20:620] = True
    for at,r,v in (((100,200),3,1.), ((220,50),9,.6), ((10,160),2,1.)): cv2.circle(m, at, r, v, -1)
    o = spots(cv2.GaussianBlur(m, (0,0), 2), mask, 9)
    assert np.allclose(o[['x','y']], [[200.5,400.5],[440.5,100.5]], atol=2) and np.allclose(o.radius, [7,18], rtol=.25)
    assert o.score.iloc[0]>o.score.iloc[1]>.55
    assert len(spots(m*0, mask, 9))==0 and len(spots(m, mask, 1))==1

def test_no_two_spots_within_four_pixels():
    m = cv2.GaussianBlur(np.random.default_rng(0).random((320,320)).astype(np.float32), (0,0), 1)
    o = spots(m, np.ones((640,640), bool), 200)
    d = np.hypot(*(o[['x','y']].to_numpy()[:,None]-o[['x','y']].to_numpy()[None]).transpose(2,0,1))+1e9*np.eye(len(o))
    assert len(o)==200 and 4<d.min()<=6 and (np.diff(o.score)<=0).all()

@pytest.mark.parametrize('im', [np.zeros((90,120,3), np.uint8), np.full((64,64,3), 255, np.uint8), np.zeros((80,80), np.uint8),
                                np.random.default_rng(0).integers(0, 255, (90,120,3)).astype(np.uint8)], ids=['black','white','gray','noise'])
def test_no_guess(im):
    df = find_lesions(im)
    assert len(df)==0 and list(df)==COLUMNS[1:] and df.attrs['reason']

def test_contrast_of_a_flat_picture_is_nothing():
    x = color_contrast(np.full((640,640,3), 90, np.uint8), np.ones((640,640), bool))
    assert x.shape==(3,640,640) and np.abs(x).max()<.1

def test_weights_are_small_and_finite():
    p = files('fundus_fastai')/'anatomy/lesions.safetensors'
    assert p.stat().st_size<2_000_000 and all(torch.isfinite(o).all() for o in lesion_net().state_dict().values())
    with pytest.raises(DataError, match='device=nowhere'): lesion_net('nowhere')

def test_net_of_ones_own():
    "A net that says no everywhere finds nothing: its weights are asked, and no other's"
    net = LesionNet().eval()
    with torch.no_grad():
        net.out.weight.zero_()
        net.out.bias.fill_(-9)
    o = phantom_fundus(['diabetic retinopathy'], 31, 1, grade=3, size=320)
    df = find_lesions(o.image, net=net)
    assert len(df)==0 and list(df)==COLUMNS[1:] and df.attrs['reason']=='' and len(find_lesions(o.image))

def test_command(tmp_path, capsys):
    "Same names in two folders, a broken and a black file: rows, counts, overlays, and an exit that tells"
    o = phantom_fundus(['diabetic retinopathy'], 31, 2, grade=3, size=320)
    for d in ('a','b'):
        (tmp_path/d).mkdir()
        save_fundus(o, tmp_path/d/'eye.jpg', tmp_path/d/'eye.npz')
    cv2.imwrite(str(tmp_path/'black.png'), o.image*0)
    (tmp_path/'broken.jpg').write_bytes(b'nothing')
    args = [str(tmp_path/k) for k in ('a','b','black.png','broken.jpg')]
    assert main(['lesions', *args, '--out', str(tmp_path/'out')])
    told = capsys.readouterr()
    assert 'broken.jpg' in told.err and told.out.startswith('2 of 4 images; '), "what nobody looked at had 0 lesions"
    assert main(['lesions', args[2], '--out', str(tmp_path/'dark')])==0 and capsys.readouterr().out.startswith('0 of 1 images; nothing could be looked at')
    df,n = pd.read_csv(tmp_path/'out/detections.csv'),pd.read_csv(tmp_path/'out/counts.csv')
    assert list(df)==COLUMNS and set(df.path)=={str(tmp_path/d/'eye.jpg') for d in 'ab'} and set(df.type)<={*LESION_CODES}
    assert df.groupby(['path','type']).size().max()<=200 and df.score.between(0, 1).all() and (df.radius>0).all()
    assert list(n)==['path',*LESION_CODES,'overlay','reason','model'] and n.reason.notna().sum()==2 and n.HE.notna().sum()==2
    assert sorted(o.name for o in (tmp_path/'out/overlays').iterdir())==['a_eye.jpg','b_eye.jpg']
    assert n.overlay.fillna('').tolist()==['overlays/a_eye.jpg','overlays/b_eye.jpg','','']
    over = cv2.imread(str(tmp_path/'out'/n.overlay[0]))
    assert over.shape==(320,320,3) and (over!=cv2.imread(str(tmp_path/'a/eye.jpg'))).any()
    assert main(['lesions', args[0], '--out', str(tmp_path/'out')])
    assert '--force' in capsys.readouterr().err
    assert list(lesion_table([tmp_path/'a'], tmp_path/'out', force=True).path.unique())==[str(tmp_path/'a/eye.jpg')]
    assert [o.name for o in (tmp_path/'out/overlays').iterdir()]==['eye.jpg'], "overlays of the table before are gone"

def test_no_eye_overwrites_another(tmp_path):
    "OD of two patients, and a third whose own name is what the second might be called"
    for k,name in enumerate(('p1/OD.jpg','p2/OD.jpg','p3/OD-2.jpg','p4/p1_OD.png','p4/od.jpg')):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path/name), phantom_fundus([], 31, k, size=200).image[...,::-1])
    n = lesion_table([tmp_path], tmp_path/'out').attrs['counts']
    there = {f'overlays/{o.name}' for o in (tmp_path/'out/overlays').iterdir()}
    assert {*n.overlay[n.reason=='']}==there and len(there)==5 and n.overlay.str.lower().is_unique

# --- stopped and resumed

class Guess(page.Finder):
    "Spots by lot, of a picture's own color: none of every third"
    model,asked = 'guess',[]
    def __init__(self, device='cpu'): pass
    def __call__(self, im):
        self.asked.append(k := int(im[0,0,0]))
        rng = np.random.default_rng(k)
        df = pd.DataFrame(rng.random((k%3*2, 4)), columns=['x','y','score','radius']).assign(type='MA')[COLUMNS[1:]]
        df.attrs |= dict(reason='is black' if k==4 else '', shape=im.shape[:2])
        return df

@pytest.fixture
def photographs(tmp_path, monkeypatch):
    "Six pictures of which the fourth is black, and one that cannot be read, asked by `Guess`"
    monkeypatch.setattr(page, 'Finder', Guess)
    for k in range(1, 7): cv2.imwrite(str(tmp_path/f'{k}.png'), np.full((20,20,3), k, np.uint8))
    (tmp_path/'0.png').write_bytes(b'nothing')
    Guess.asked.clear()
    return sorted(map(str, tmp_path.glob('*.png')))

def left_in(folder): return {str(o.relative_to(folder)):o.read_bytes() for o in folder.rglob('*') if o.is_file()}

class Killed(BaseException): "What a kill does: nothing is tidied up"

@pytest.mark.parametrize('of,point', [*(('rows of '+f,k) for f in ('detections.csv','counts.csv') for k in (0,1,3,5)), *(('end of '+f,0) for f in ('detections.csv','counts.csv'))])
def test_killed_and_resumed_to_the_byte(photographs, tmp_path, monkeypatch, of, point):
    want = lesion_table(photographs, tmp_path/'whole')
    what,_,file = of.partition(' of ')
    name,n = dict(rows='add', end='close')[what],[0]
    plain = getattr(RowFile, name)
    def dying(self, *args):
        n[0] += self.file.name==file
        if self.file.name==file and n[0]>point: raise Killed
        return plain(self, *args)
    with monkeypatch.context() as m:
        m.setattr(RowFile, name, dying)
        m.setattr(RowFile, 'release', lambda self: self.lock and setattr(self, 'lock', self.lock.close()))
        with pytest.raises(Killed): lesion_table(photographs, tmp_path/'out')
    Guess.asked.clear()
    t = lesion_table(photographs, tmp_path/'out', resume=True)
    assert left_in(tmp_path/'out')==left_in(tmp_path/'whole')
    assert len(Guess.asked)==(0 if what=='end' else 6-max(0, point-1))
    pd.testing.assert_frame_equal(t, want, rtol=1e-5, check_dtype=False)
    pd.testing.assert_frame_equal(t.attrs['counts'], want.attrs['counts'], check_dtype=False)

def test_going_on_is_with_the_same(photographs, tmp_path, monkeypatch, capsys):
    "Another net, a table without its rows, what is finished, and an earlier call that `force` began to replace"
    out = tmp_path/'out'
    lesion_table(photographs[:3], out)
    first = left_in(out)
    assert len(lesion_table(photographs[:3], out, resume=True))==len(pd.read_csv(out/'detections.csv')) and 'is finished' in capsys.readouterr().err
    with pytest.raises(DataError, match='is finished, without 4'): lesion_table(photographs, out, resume=True)
    def stop(self, im, n=[0]):
        n[0] += 1
        if n[0]==4: raise KeyboardInterrupt
        return plain(self, im)
    plain = Guess.__call__
    with monkeypatch.context() as m:
        m.setattr(Guess, '__call__', stop)
        with pytest.raises(KeyboardInterrupt): lesion_table(photographs, out, force=True)
    assert {k:v for k,v in left_in(out).items() if k in first}==first, "what was there stays until the end"
    for o in ('detections.csv','counts.csv'): (out/o).unlink()
    with pytest.raises(DataError, match='begun: pass `resume=True`'): lesion_table(photographs, out)
    with monkeypatch.context() as m:
        m.setattr(Guess, 'model', 'another')
        with pytest.raises(DataError, match='with another model'): lesion_table(photographs, out, resume=True)
    shutil.copytree(out, tmp_path/'less')
    (tmp_path/'less/detections.csv.part').unlink()
    with pytest.raises(DataError, match='detections.csv is gone: begin again'): lesion_table(photographs, tmp_path/'less', resume=True)
    for o,how in ((out,True),(tmp_path/'whole',False)): lesion_table(photographs, o, resume=how, keep=False)
    assert left_in(out)==left_in(tmp_path/'whole')

@pytest.mark.parametrize('rows', (0,1,4))
def test_a_forced_call_that_was_stopped_goes_on(photographs, tmp_path, monkeypatch, rows):
    "`resume` had put the few candidates of the stopped call in place of the finished table, beside its counts"
    def stop(self, *args):
        if self.file.name=='counts.csv' and sum(1 for _ in self.part.open())>=rows+bool(rows): raise KeyboardInterrupt
        return plain(self, *args)
    def stopped(files):
        with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
            m.setattr(RowFile, 'add', stop)
            lesion_table(files, out, force=True)
    plain,out = RowFile.add,tmp_path/'out'
    lesion_table(photographs, out)
    want = left_in(out)
    stopped(photographs)
    assert all(left_in(out)[k]==v for k,v in want.items())
    Guess.asked.clear()
    lesion_table(photographs, out, resume=True)
    assert left_in(out)==want and len(Guess.asked)==(7-rows if rows else 0)
    shutil.copy(photographs[2], other := str(tmp_path/'7.png'))
    stopped([other, *photographs]) # leaves an overlay that the next call does not name
    lesion_table(photographs, out, force=True)
    assert rows==0 or left_in(out)==want

@pytest.mark.parametrize('end', (KeyboardInterrupt, Killed))
def test_forced_calls_that_were_stopped_in_a_row_leave_no_overlay(photographs, tmp_path, monkeypatch, end):
    "The second had emptied the part, and with it the names of what the first had drawn"
    def stop(self, *args):
        if self.file.name=='counts.csv' and self.part.stat().st_size: raise end
        return plain(self, *args)
    plain,out = RowFile.add,tmp_path/'out'
    lesion_table(photographs, out)
    want = left_in(out)
    shutil.copy(photographs[2], other := str(tmp_path/'7.png'))
    with monkeypatch.context() as m:
        m.setattr(RowFile, 'add', stop)
        for files in ([other, *photographs], photographs):
            with pytest.raises(end): lesion_table(files, out, force=True)
    assert not (out/'overlays/7.jpg').exists() and all(left_in(out)[k]==v for k,v in want.items())
    lesion_table(photographs, out, resume=True)
    assert left_in(out)==want

def test_the_end_of_a_call_that_went_on_counts_all(photographs, tmp_path, monkeypatch, capsys):
    "One of an earlier call that has no counts was told of no more"
    def words(*more): return ['lesions', *photographs, '--out', str(tmp_path/'out'), *more]
    def stop(self, *args):
        if self.file.name=='counts.csv' and sum(1 for _ in self.part.open())==7: raise KeyboardInterrupt
        return plain(self, *args)
    plain = RowFile.add
    with monkeypatch.context() as m:
        m.setattr(RowFile, 'add', stop)
        assert main(words())==130
    capsys.readouterr()
    assert main(words('--resume'))==0 and '2 images without all counts (column reason)' in capsys.readouterr().err

def test_parts_make_the_whole(photographs, tmp_path, capsys):
    assert main(['lesions', *photographs, '--out', str(tmp_path/'whole')])==1
    for k in (1,2): assert main(['lesions', *photographs, '--out', str(tmp_path/'out'), '--shard', f'{k}/2'])==2-k
    whole,parts = pd.read_csv(tmp_path/'whole/detections.csv'),[pd.read_csv(tmp_path/f'out/{k}of2/detections.csv') for k in (1,2)]
    assert parts[0].path.nunique() and parts[1].path.nunique()
    assert sorted(map(tuple, pd.concat(parts).to_numpy()))==sorted(map(tuple, whole.to_numpy()))
    assert main(['lesions', *photographs, '--out', str(tmp_path/'out'), '--shard', '3/2'])==1 and 'is none' in capsys.readouterr().err
    assert main(['lesions', photographs[1], '--out', str(tmp_path/'out'), '--shard', '3/4'])==1 and '--shard 3/4 has none of these' in capsys.readouterr().err

# --- maps of a run's own net

def saved(to, names='AB', **kwargs):
    "A run of an untrained net that reads photographs"
    torch.manual_seed(0)
    df = pd.DataFrame(dict(path=[phantom_fundus([], 3, k, size=64).image for k in range(4)], label=list(names)*2, split=['train']*2+['valid']*2))
    learn = eye_learner(eye_dls(df, image='fundus', size=96, bs=2, workers=0, recipe='crop'), tiny, weights=None, **kwargs)
    save_model(learn, to, 'disease', source='phantom')
    return to

@pytest.fixture(scope='module')
def run(tmp_path_factory): return saved(tmp_path_factory.mktemp('run')/'run')

def test_peaks_of_a_run_lie_where_the_photograph_has_them(run):
    "A net that wants yellow points at three yellow spots, on a canvas, in a cut field and at any size"
    find = RunFinder(run, 'hue_gradient')
    def yellow(items, *args, **kwargs):
        x, = (b[0].as_subclass(torch.Tensor) for b in find.learn.dls.test_dl(pd.DataFrame(dict(path=items))))
        return SimpleNamespace(map=(x[:,1:2]-x[:,2:]-1.5).clamp(min=0), classes=['B'])
    find.learn.evidence = yellow
    im = phantom_fundus([], 4, 2, camera='clipped', size=300).image
    at = np.array([[110,150],[200,120],[170,210]])
    for x,y in at: cv2.circle(im, (int(x),int(y)), 4, (255,255,0), -1)
    wide = cv2.copyMakeBorder(im, 30, 10, 50, 20, cv2.BORDER_CONSTANT, value=[int(im[0,0,0])]*3)
    for a,want in ((im,at), (wide,at+[50,30]), (cv2.resize(im, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),2*at+.5)):
        df = find(a)
        d = np.hypot(*(df[['x','y']].to_numpy()[:,None]-want[None]).transpose(2,0,1))
        assert len(df)==3 and (d.min(0)<.02*a.shape[1]).all() and (df.type=='').all() and list(df)==COLUMNS[1:]
        assert (df.radius-4*a.shape[1]/300/(a is wide and 370/300 or 1)).abs().max()<.015*a.shape[1]
    assert len(find(im*0))==0 and find(im*0).attrs['reason']

@pytest.mark.parametrize('names,head,trained,method,classes,types', [
    (('B','A'),None,None,'occlusion',['B'],''), (('MA','hard exudate'),None,dict(nu=.01),'hue_gradient',['MA','hard exudate'],'MA, EX'),
    (('normal','ill'),'evidence',dict(nu=.01),'evidence',['ill'],''), (('A','B'),None,dict(nu=0),'occlusion',['B'],'')])
def test_what_suits_the_net(tmp_path, capsys, names, head, trained, method, classes, types):
    "The head's own evidence, then trained maps, then occlusion; classes named as types first, else the last"
    run = saved(tmp_path/'run', names, **({'head':head} if head else {}))
    c = json.loads((run/'config.json').read_text())
    (run/'config.json').write_text(json.dumps(c|dict(training=dict(maps=trained))))
    find = RunFinder(run)
    assert (find.method,sorted(find.classes))==(method,sorted(classes))
    assert (types or 'no types of lesions') in capsys.readouterr().err
    if head: torch.nn.init.normal_(find.learn.model[1].say.weight) # an evidence head begins with nothing
    df = find(phantom_fundus(['diabetic retinopathy'], 31, 1, grade=3, size=200).image)
    assert len(df) and set(df.type)<=set((types or '').split(', ')) and df.groupby('type').size().max()<=200 and (df.score>0).all() and (df.radius>=0).all()

def test_command_with_a_run(run, tmp_path, capsys):
    o = phantom_fundus(['diabetic retinopathy'], 31, 2, grade=3, size=200)
    save_fundus(o, tmp_path/'eye.jpg', tmp_path/'eye.npz')
    cv2.imwrite(str(tmp_path/'black.png'), o.image*0)
    args = ['lesions', *(str(tmp_path/k) for k in ('eye.jpg','black.png')), '--run', str(run), '--out', str(tmp_path/'out')]
    assert main([*args, '--of', 'A'])==0 and 'candidates' in (said := capsys.readouterr()).out and 'maps by occlusion, for A' in said.err
    df,n = pd.read_csv(tmp_path/'out/detections.csv'),pd.read_csv(tmp_path/'out/counts.csv')
    assert list(df)==COLUMNS and df.type.isna().all() and list(n)==['path','candidates','overlay','reason','model'] and n.candidates.max()==len(df)>0
    over = cv2.imread(str(tmp_path/'out/overlays/eye.jpg'))
    assert (over!=cv2.imread(str(tmp_path/'eye.jpg'))).any()
    for more,word in ((['--of','C'],'class'), (['--method','guess'],'method'), (['--run',str(tmp_path)],'config.json')):
        assert main([*args, '--force', *more])==1 and word in capsys.readouterr().err
    assert main([*args[:3], '--of', 'A'])==1 and '--run' in capsys.readouterr().err
    with pytest.raises(DataError, match='reads scans'): RunFinder(Path(__file__).parents[1]/'run/old_run/run')

def test_a_full_disk_is_named(tmp_path, monkeypatch):
    "It said that there is no such file or directory"
    def full(*args): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(Path, 'write_bytes', full)
    cv2.imwrite(str(tmp_path/'a.png'), phantom_fundus([], 31, 0, size=200).image[...,::-1])
    with pytest.raises(OSError, match='no room is left there') as e: lesion_table([tmp_path/'a.png'], tmp_path/'out')
    assert e.value.filename==str(tmp_path/'out/overlays/a.jpg')
