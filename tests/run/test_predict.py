"The table for a clinic: a row each file, no answer where nothing can be seen, written as it goes"
import errno, io, json, os, shutil
from functools import partial
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from attack.images import judge
from fundus_fastai.core import DataError, write_json
from fundus_fastai.options import DataOptions, DeviceOptions, TrainOptions, UnseenOptions
from fundus_fastai.run import train
from fundus_fastai.vision import answers
from fundus_fastai.cli import main
from fundus_fastai.run.folder import only_writer
from fundus_fastai.run.train import evaluate_run, explain_run, predict_run, train_run
from fundus_fastai.explain.maps import explain_images
from fundus_fastai.vision.answers import decisions, images_of, pool_answers, told_by_names, unique_stems
from fundus_fastai.vision.model import load_model

HERE = Path(__file__).parent/'old_run'
SCANS = sorted(HERE.glob('scans/**/*.jpeg'))
RUN = HERE/'run'

@pytest.fixture
def black(tmp_path):
    Image.new('L', (200,160)).save(tmp_path/'7_left.png')
    return tmp_path/'7_left.png'

def test_every_file_has_its_row_in_order(black, tmp_path):
    (tmp_path/'broken.png').write_bytes(b'no picture')
    files = [SCANS[0], black, tmp_path/'broken.png', tmp_path/'gone.png', SCANS[1]]
    for bs in (1,2,64):
        t = predict_run(RUN, files, bs=bs)
        assert t.path.tolist()==[str(o) for o in files] and t.usable.tolist()==[True,False,False,False,True]
        assert 'blank' in t.remark[1] and 'broken.png' in t.remark[2] and 'gone.png' in t.remark[3]
        assert (t.remark[[0,4]]=='').all() and t.attrs['unread']==2
        said = t.drop(columns=['path','patient','eye','usable','remark','model'])
        assert said[~t.usable].isna().all(axis=None) and said[t.usable].notna().all(axis=None)

@pytest.mark.parametrize('paths', [['p/a.jpg','p/a.png','q/p_a_2.jpg'], ['p/A.jpg','q/a.jpg','r/q_a.jpg'], ['p/a.jpg','P/a.jpg','p/A.png'],
                                   ['a_2/b.png','a/2_b.png','a/b.png','a/b.jpg'], ['a/b.png']*3, []])
def test_files_made_of_two_eyes_have_two_names(paths):
    "Also on disks that do not tell case, and beside an eye whose own name is what another might be called"
    stems = unique_stems(paths)
    assert len({o.lower() for o in stems})==len(paths)
    assert all(Path(p).stem.lower() in o.lower() for p,o in zip(paths, stems))

def test_a_remark_is_never_nan(black, tmp_path):
    predict_run(RUN, [SCANS[0],black], out=tmp_path/'t.csv')
    t = pd.read_csv(tmp_path/'t.csv', dtype=str, keep_default_na=False)
    assert not (t=='nan').any(axis=None) and t.remark[0]==''

def test_a_file_is_judged_by_itself_and_not_by_one_whose_name_begins_alike(black, tmp_path):
    for k,o in enumerate([SCANS[0],black]): Image.open(o).save(tmp_path/['P7.png','P7.png (2).png'][k])
    for bs in (1,64):
        t = predict_run(RUN, [tmp_path/'P7.png',tmp_path/'gone.png',tmp_path/'P7.png (2).png',black], bs=bs)
        assert t.usable.tolist()==[True,False,False,False] and t.remark[0]=='' and 'gone' in t.remark[1]
        assert t.remark[2]==t.remark[3] and t.remark[2].startswith('is blank')

def test_what_gets_no_answer_gets_no_map(black, tmp_path, capsys):
    "maps.csv gave a black picture a class, as if it had been read"
    t = explain_run(RUN, [black,SCANS[0]], 'grad_cam', out=tmp_path/'m')
    assert t.path.tolist()==[str(SCANS[0])] and 'is blank: nothing can be seen in it; it gets no map' in capsys.readouterr().err
    assert sorted(o.name for o in (tmp_path/'m').iterdir())==sorted([*t['map'],*t.overlay,'maps.csv']) and t.attrs['unread']==0
    (tmp_path/'broken.png').write_bytes(b'no picture')
    for files,words in (([black],'1 of 1 get no map'), ([black,tmp_path/'broken.png'],'1 of 2 images cannot be read, 1 of 2 get no map')):
        with pytest.raises(DataError, match=f'nothing is left: {words}'): explain_run(RUN, files, 'grad_cam', out=tmp_path/'none')

def test_only_black(black, tmp_path):
    t = predict_run(RUN, [black], out=tmp_path/'t.csv')
    assert len(t)==1 and not t.usable[0] and len(pd.read_csv(tmp_path/'t.csv'))==1

def test_a_black_photograph_gets_no_answer(tmp_path, light):
    "As OCT does; and a good one does get one"
    opts = TrainOptions('test_efficientnet', weights='none', size=32, bs=8, epochs=1, freeze_epochs=0, workers=0)
    train_run('anomaly', DataOptions(patients=14), opts, out=tmp_path/'run', maps=0)
    Image.new('RGB', (300,300)).save(tmp_path/'black.jpg')
    eye = np.zeros((300,300,3), np.uint8)
    y,x = np.ogrid[:300,:300]
    eye[np.hypot(y-150, x-150)<140] = (190,90,40)
    Image.fromarray(eye).save(tmp_path/'eye.jpg')
    t = predict_run(tmp_path/'run', [tmp_path/'black.jpg',tmp_path/'eye.jpg'])
    assert t.usable.tolist()==[False,True] and 'no visible field' in t.remark[0]
    assert t.filter(like='p_').isna().all(axis=1).tolist()==[True,False]

def test_names_tell_patient_and_eye():
    t = told_by_names(['10_left.jpeg','x/P3-OD.png','a9 os.tif','CNV-123-4.jpeg','retina.png'])
    assert t.eye.fillna('').tolist()==['L','R','L','',''] and t.patient.fillna('').tolist()==['10','P3','a9','123','']

def test_equal_names_of_several_folders_are_nobody_and_no_eye_spans_folders(tmp_path):
    names = 'A/visit1_OD.png','A/visit1_OS.png','B/visit1_OD.png','B/7_20210305_OS.png','B/7_20210305_OS_b.png','A/7_OS.png'
    for k,o in enumerate(names): (tmp_path/o).parent.mkdir(exist_ok=True); Image.open(SCANS[k]).save(tmp_path/o)
    one,t = (predict_run(RUN, [tmp_path/o for o in names], bs=bs) for bs in (1,64))
    assert one.patient.fillna('').tolist()==t.patient.fillna('').tolist()==['','','','7','','7'] and t.eye.fillna('').tolist()==[*'RLRL','','L']
    assert len(pool_answers(t))==6
    together = pool_answers(t.assign(patient='digest', eye='L')) # as hospitals' files tell it
    assert together.path.tolist()==['digest L'] and together.images.tolist()==[6]
    u = t[3:5].assign(path=[str(tmp_path/'B'/o) for o in ('7_OS.png','7_20210305_OS.png')], patient='7', eye='L')
    assert pool_answers(u).path.tolist()==['7 L']

def test_visits_of_an_eye_are_not_pooled(capsys):
    def rows(*names, **more):
        t = pd.DataFrame(dict(path=names, patient='7', eye='L', usable=True, p_a=.2, p_b=.8, model='m') | more)
        t.attrs.update(kind='category', operating={}, points=None)
        return pool_answers(t)
    one = rows('7_20210305_OS.png','7_20210305_t2_OS.png','7_OS.png')
    assert one.path.tolist()==['7 L'] and not capsys.readouterr().err # what is not told may be the same day
    t = rows('7_20210305_OS.png','7_2022-09-01_OS.png','7_20210305_101500_OS.png','7_OS.png', eye=['L','L','L','L'])
    assert dict(zip(t.path, t.images))=={'7 L 20210305':2, '7 L 2022-09-01':1, '7 L':1} and 'of 1 eye\n' in capsys.readouterr().err
    t = rows('7_V1_OS.png','7_V2_OS.png','8_V1_OS.png', patient=['7','7','8'])
    assert t.path.tolist()==['7 L V1','7 L V2','8 L']
    assert rows('7_V1.png','7_V2.png', eye=None).path.tolist()==['7_V1.png','7_V2.png'] and capsys.readouterr().err.count('told apart')==1

def test_the_decision_is_that_of_the_threshold():
    t = predict_run(RUN, SCANS)
    points = json.loads((RUN/'metrics.json').read_text())['operating_points']
    assert points
    for o in points:
        hit = t[f"p_{o['question']}"]>o['threshold']
        assert t[f"{o['question']} at {o['goal']} {100*o['at_least']:.0f} %"].tolist()==np.where(hit, 'yes', 'no').tolist()

def test_several_questions_and_none_decide_nothing():
    p = pd.DataFrame(dict(p_a=[.2], p_b=[.8]))
    point = dict(goal='sensitivity', at_least=.9, threshold=.5)
    assert decisions(p, [dict(point, question='a'), dict(point, question='b')])=={}=={**decisions(p, None), **decisions(p, [])}

def test_the_model_is_named():
    assert set(predict_run(RUN, SCANS[:2]).model)=={json.loads((RUN/'config.json').read_text())['sha256'][:16]}

# --- the file

def stopped(monkeypatch, after):
    "Ctrl-C after so many batches"
    left,real = [after],answers.predict_files
    def f(*args, **kw):
        if not left[0]: raise KeyboardInterrupt
        left[0] -= 1
        return real(*args, **kw)
    monkeypatch.setattr(answers, 'predict_files', f)

def test_stopped_and_resumed(tmp_path, monkeypatch):
    predict_run(RUN, SCANS, bs=2, out=tmp_path/'whole.csv')
    stopped(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt): predict_run(RUN, SCANS, bs=2, out=tmp_path/'t.csv')
    monkeypatch.undo()
    part = tmp_path/'t.csv.part'
    assert not (tmp_path/'t.csv').exists() and len(pd.read_csv(part))==4
    part.write_bytes(part.read_bytes()[:-9]) # a row that a kill has torn is made again
    with pytest.raises(DataError, match='resume=True'): predict_run(RUN, SCANS, out=tmp_path/'t.csv')
    predict_run(RUN, SCANS, bs=2, out=tmp_path/'t.csv', resume=True)
    a,b = (pd.read_csv(tmp_path/o) for o in ('whole.csv','t.csv'))
    assert not part.exists() and a.path.tolist()==b.path.tolist() and np.allclose(a.p_CNV, b.p_CNV, atol=1e-5)

def test_a_call_that_goes_on_tells_of_rows_before_it(tmp_path, monkeypatch, capsys):
    "How many have no answer, and whose picture was changed meanwhile: both had gone without a word"
    files = [shutil.copy(o, tmp_path) for o in SCANS[:4]]
    Path(files[1]).write_bytes(b'no image')
    for o in files: os.utime(o, (1e9,1e9))
    out = tmp_path/'t.csv'
    stopped(monkeypatch, 1)
    assert main(['predict',str(RUN),*files,'--bs','2','--out',str(out)])==130
    monkeypatch.undo()
    capsys.readouterr()
    def again(): return main(['predict',str(RUN),*files,'--resume','--out',str(out)]),capsys.readouterr().err
    status,said = again()
    assert status==0 and '1 image without an answer (column remark)' in said and 'newer' not in said
    os.utime(files[0])
    os.utime(out, (1.1e9,1.1e9))
    said = again()[1]
    assert f'1 image newer than {out} ({files[0]}): what stands there of them stays (--force asks all anew)' in said

def test_not_resumed_with_another_model(tmp_path, monkeypatch):
    stopped(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt): predict_run(RUN, SCANS, bs=2, out=tmp_path/'t.csv')
    monkeypatch.undo()
    part = tmp_path/'t.csv.part'
    model = pd.read_csv(part).model[0]
    part.write_text(part.read_text().replace(model, '0'*16))
    with pytest.raises(DataError, match='another model'): predict_run(RUN, SCANS, out=tmp_path/'t.csv', resume=True)

def test_one_table_has_one_writer(tmp_path):
    fcntl = pytest.importorskip('fcntl')
    with (tmp_path/'t.csv.part').open('w') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for kw in ({}, dict(resume=True), dict(force=True)):
            with pytest.raises(DataError, match='another program is writing'): predict_run(RUN, SCANS[:1], out=tmp_path/'t.csv', **kw)
    assert (tmp_path/'t.csv.part').exists() and len(predict_run(RUN, SCANS[:1], out=tmp_path/'t.csv'))==1

def begun(to, rows, monkeypatch):
    "A table of `rows` times two scans that was stopped"
    stopped(monkeypatch, rows)
    with pytest.raises(KeyboardInterrupt): predict_run(RUN, SCANS, bs=2, out=to)
    monkeypatch.undo()
    return Path(f'{to}.part')

def test_a_table_of_other_images_is_not_resumed(tmp_path, monkeypatch):
    part = begun(tmp_path/'t.csv', 1, monkeypatch)
    was = part.read_bytes()
    with pytest.raises(DataError, match='begun with other images'): predict_run(RUN, SCANS[1:], out=tmp_path/'t.csv', resume=True)
    assert part.read_bytes()==was and len(predict_run(RUN, SCANS, out=tmp_path/'t.csv', resume=True))==len(SCANS)-2

def test_names_that_mean_other_files_elsewhere(tmp_path, monkeypatch):
    "The folders of two sites have the same names inside"
    for site in 'ab':
        (tmp_path/site).mkdir()
        for k in (1,2): (tmp_path/site/f'{k}.jpeg').write_bytes(SCANS[k].read_bytes())
    monkeypatch.chdir(tmp_path/'a')
    with monkeypatch.context() as m:
        stopped(m, 1)
        with pytest.raises(KeyboardInterrupt): predict_run(RUN, ['1.jpeg','2.jpeg'], bs=1, out=tmp_path/'t.csv')
    monkeypatch.chdir(tmp_path/'b')
    with pytest.raises(DataError, match='was begun in .*a, where these names mean other files'):
        predict_run(RUN, ['1.jpeg','2.jpeg'], out=tmp_path/'t.csv', resume=True)
    monkeypatch.chdir(tmp_path/'a')
    assert len(predict_run(RUN, ['1.jpeg','2.jpeg'], out=tmp_path/'t.csv', resume=True))==1
    assert {o.name for o in tmp_path.iterdir()}=={'a','b','t.csv'}

def test_a_disk_that_fails_while_a_call_goes_on_bars_no_later_one(tmp_path, monkeypatch):
    "Where the table was begun was written anew each time: cut off there, the next call was told of a place with half a name, or none"
    (tmp_path/'1.jpeg').write_bytes(SCANS[0].read_bytes())
    (tmp_path/'2.jpeg').write_bytes(SCANS[1].read_bytes())
    monkeypatch.chdir(tmp_path)
    def full(self, text, **kwargs):
        with self.open('w') as f: f.write(text[:len(text)//2])
        raise OSError(errno.ENOSPC, 'No space left on device')
    with monkeypatch.context() as m:
        stopped(m, 1)
        with pytest.raises(KeyboardInterrupt): predict_run(RUN, ['1.jpeg','2.jpeg'], bs=1, out='t.csv')
        m.setattr(Path, 'write_text', full)
        m.setattr(answers, 'predict_files', full)
        with pytest.raises(Exception): predict_run(RUN, ['1.jpeg','2.jpeg'], bs=1, out='t.csv', resume=True)
    assert Path('t.csv.part.cwd').read_text()==str(tmp_path)
    Path('t.csv.part.cwd').write_text('') # as an earlier version may have left it
    assert len(predict_run(RUN, ['1.jpeg','2.jpeg'], out='t.csv', resume=True))==1
    Path('t.csv.part.cwd').write_text(str(tmp_path)) # killed just before its end
    predict_run(RUN, ['1.jpeg','2.jpeg'], out='t.csv', resume=True)
    assert not Path('t.csv.part.cwd').exists()

@pytest.mark.parametrize('at', ['replace','fsync'])
def test_rows_that_nobody_can_go_on_with_are_not_left(tmp_path, monkeypatch, at):
    "`fundus gather` on a failing disk said that no half file was kept, and left one that barred the next call"
    for k in (1,2): predict_run(RUN, SCANS, out=tmp_path/f'{k}.csv', shard=(k,2))
    join = ['gather', tmp_path/'1.csv', tmp_path/'2.csv', '--out', tmp_path/'t.csv']
    with monkeypatch.context() as m:
        def fail(*args): raise OSError(errno.EIO, 'Input/output error')
        m.setattr(os, at, fail)
        assert main(join)==1
    assert sorted(o.name for o in tmp_path.iterdir())==['1.csv','2.csv'] and main(join)==0

def test_rows_are_on_the_disk_before_they_have_the_name_of_a_whole_table(tmp_path, monkeypatch):
    "A power failure may keep a name and lose what was written, unless this was asked for"
    table,told,sync,replace = answers.RowFile(tmp_path/'t.csv'),[],os.fsync,os.replace
    table.add(pd.DataFrame(dict(path=['a'])))
    monkeypatch.setattr(os, 'fsync', lambda f: told.append(os.fstat(f).st_ino) or sync(f))
    monkeypatch.setattr(os, 'replace', lambda a, b: told.append('named') or replace(a, b))
    table.close()
    assert told==[(tmp_path/'t.csv').stat().st_ino,'named']

def test_nobody_resumes_what_cannot_be(tmp_path, monkeypatch, capsys):
    begun(tmp_path/'t.csv', 1, monkeypatch)
    assert main(['predict', RUN, *SCANS, '--out', tmp_path/'t.csv', '--pool', 'eye'])==1
    assert 'was begun: pass --force\n' in capsys.readouterr().err

def test_a_row_torn_within_a_name_is_made_again(tmp_path, monkeypatch):
    "A name may hold a line break; a head alone is no row"
    part = begun(tmp_path/'t.csv', 1, monkeypatch)
    whole = part.read_text()
    for torn in (whole+'"a\n', whole+'"a\nb\nc'):
        part.write_text(torn)
        assert answers.whole_rows(part)==len(whole) and part.read_text()==whole
    part.write_text(whole[:whole.index('\n')+1])
    assert len(predict_run(RUN, SCANS, out=tmp_path/'t.csv', resume=True))==len(SCANS)==len(pd.read_csv(tmp_path/'t.csv'))

def test_links_are_followed_and_pipes_refused(tmp_path):
    (tmp_path/'disk').mkdir()
    (tmp_path/'t.csv').symlink_to('disk/t.csv')
    for kw in ({}, dict(force=True)):
        predict_run(RUN, SCANS[:1], out=tmp_path/'t.csv', **kw)
        assert (tmp_path/'t.csv').is_symlink() and len(pd.read_csv(tmp_path/'disk'/'t.csv'))==1
    os.mkfifo(tmp_path/'p.csv')
    for kw in ({}, dict(force=True)):
        with pytest.raises(DataError, match='is no file'): predict_run(RUN, SCANS[:1], out=tmp_path/'p.csv', **kw)
    with pytest.raises(DataError, match='is no file'): write_json(tmp_path/'p.csv', {})
    assert (tmp_path/'p.csv').is_fifo()

def test_names_that_are_not_utf8_are_told_for_files_too():
    with pytest.raises(DataError, match='convmv'): images_of([os.fsdecode(b'lat/M\xfcller.png')])

@pytest.mark.parametrize('name', ['t.csv','t.parquet'])
def test_a_finished_table_is_finished(tmp_path, capsys, name):
    "A job that is queued again goes on; with more images, or another model, it is told"
    if name=='t.parquet': pytest.importorskip('pyarrow')
    out = tmp_path/name
    predict_run(RUN, SCANS[:2], out=out)
    was = out.read_bytes()
    again = predict_run(RUN, SCANS[:2], out=out, resume=True)
    assert len(again)==0 and again.attrs['rows']==2 and 'is finished' in capsys.readouterr().err
    with pytest.raises(DataError, match='finished, without 1 of these images'): predict_run(RUN, SCANS[:3], out=out, resume=True)
    with pytest.raises(DataError, match='another shard'): predict_run(RUN, SCANS[:2], out=out, resume=True, shard=(1,1))
    assert out.read_bytes()==was and not [*tmp_path.glob('*.part')]

def test_a_file_is_not_written_over(tmp_path):
    (tmp_path/'t.csv').write_text('mine')
    for kw in ({}, dict(resume=True)):
        with pytest.raises(DataError, match='force'): predict_run(RUN, SCANS[:1], out=tmp_path/'t.csv', **kw)
    assert (tmp_path/'t.csv').read_text()=='mine'
    assert len(predict_run(RUN, SCANS[:1], out=tmp_path/'t.csv', force=True))==len(pd.read_csv(tmp_path/'t.csv'))==1

@pytest.mark.parametrize('name', ['t.xlsx','t.XLS','t.json','t.feather'])
def test_a_table_of_another_kind_is_refused(tmp_path, name, capsys):
    for verb in (['predict',RUN],['landmarks']):
        assert main([*verb, SCANS[0], '--out', tmp_path/name])==1 and not list(tmp_path.iterdir())
        assert 'name a .csv or .parquet file with --out' in capsys.readouterr().err

def test_a_table_is_parquet_in_any_case(tmp_path):
    pytest.importorskip('pyarrow')
    for o in ('t.PARQUET','t.CSV','t'): predict_run(RUN, SCANS[:1], out=tmp_path/o)
    assert pd.read_parquet(tmp_path/'t.PARQUET').path.tolist()==pd.read_csv(tmp_path/'t.CSV').path.tolist()==pd.read_csv(tmp_path/'t').path.tolist()

def test_to_a_stream():
    f = io.StringIO()
    predict_run(RUN, SCANS[:3], bs=2, out=f)
    assert len(pd.read_csv(io.StringIO(f.getvalue())))==3

# --- images that are named by their folder ---------

def test_one_name_is_one_image(tmp_path, monkeypatch):
    "And not its letters, of which `.` is a folder and `/` the disk"
    monkeypatch.chdir(SCANS[0].parent)
    name = SCANS[0].name
    assert images_of(name)==images_of(Path(name))==images_of([name])==images_of(o for o in [name])==[name]
    assert predict_run(RUN, name, out=tmp_path/'t.csv').path.tolist()==[name]
    assert explain_images(load_model(RUN), name, tmp_path/'maps').path.tolist()==[name]

def test_what_predict_does_not_read_is_told(tmp_path, capsys):
    for o in ('a/1.png','a/2.jfif','a/3.heic','a/4.fda','a/5.fda','a/6.csv','.ipynb_checkpoints/7.png','@eaDir/8.jpg/x.jpg'):
        (tmp_path/o).parent.mkdir(parents=True, exist_ok=True); (tmp_path/o).touch()
    (tmp_path/'a/loop').symlink_to(tmp_path)
    assert [Path(o).name for o in images_of([tmp_path, tmp_path/'b.png'])]==['1.png','2.jfif','b.png']
    assert capsys.readouterr().err.strip()==f'{tmp_path}: of no kind that we read: 2 .fda, 1 .heic'

# --- on which device, by how many

@pytest.mark.parametrize('on', [dict(workers=0), dict(workers=1), dict(workers=7), dict(device='cpu', workers=3)], ids=str)
def test_the_table_is_the_same_for_any_number_of_workers(on, tmp_path, black):
    files = [*SCANS, black, *SCANS[::-1]]
    predict_run(RUN, files, bs=4, out=tmp_path/'plain.csv')
    predict_run(RUN, files, DeviceOptions(**on), bs=4, out=tmp_path/'t.csv')
    assert (tmp_path/'t.csv').read_bytes()==(tmp_path/'plain.csv').read_bytes()

def test_workers_open_side_by_side(monkeypatch):
    from fundus_fastai.image import recipe
    asked,real = [],recipe.ThreadPoolExecutor
    monkeypatch.setattr(recipe, 'ThreadPoolExecutor', lambda n: asked.append(n) or real(n))
    for n in (None,0,6): predict_run(RUN, SCANS[:1], DeviceOptions(workers=n))
    assert asked==[4,1,6]

def test_the_device_is_the_one_that_was_named(monkeypatch, tmp_path):
    seen = []
    real = train.load_model
    monkeypatch.setattr(train, 'load_model', lambda run, device=None: seen.append(device) or real(run, device))
    predict_run(RUN, SCANS[:1], 'cpu')
    evaluate_run(RUN, UnseenOptions(HERE/'scans'), DeviceOptions('cpu', workers=0), maps=0, out=tmp_path/'e')
    explain_run(RUN, SCANS[:1], 'grad_cam', on='cpu', out=tmp_path/'m')
    assert main(['explain', str(RUN), str(SCANS[0]), '--method', 'grad_cam', '--device', 'cpu', '--out', str(tmp_path/'n')])==0
    assert seen==['cpu']*4
    with pytest.raises(DataError, match='`resume=True` goes on with its maps, `force=True`'): explain_run(RUN, SCANS[:1], 'grad_cam', on='cpu', out=tmp_path/'m')

@pytest.mark.parametrize('verb', ['predict','evaluate','explain'])
@pytest.mark.parametrize('argv,says', [(['--device','gpu'], '--device gpu is no device: there are cpu, cuda'),
                                       (['--device','cuda:97'], '--device cuda:97 is not in this machine: it has cpu'),
                                       (['--workers','-2'], '--workers is to be at least 0')])
def test_a_wrong_device_is_a_sentence(verb, argv, says, tmp_path, capsys):
    if (verb,argv[0])==('explain','--workers'): return # it has none
    what = ['--data',str(HERE/'scans'),'--out',str(tmp_path/'e')] if verb=='evaluate' else [str(SCANS[0])]
    assert main([verb, str(RUN), *what, *argv])==1
    assert says in capsys.readouterr().err and not (tmp_path/'e').exists()

# --- damaged files
@pytest.mark.filterwarnings('ignore')
def test_damaged_files_are_judged_as_the_check_judges_them(tmp_path):
    "`tests/attack/images.py --run` tries thousands"
    found = judge(RUN, 4, 60, tmp_path)
    assert found['answered']>5 and found['unreadable']>20 and found.total()==60

@pytest.mark.skipif(os.name=='nt', reason='no locks of folders')
def test_one_folder_of_maps_is_written_by_one(tmp_path, monkeypatch):
    "Two at once left forty maps, and a table of twenty-one"
    monkeypatch.setattr(train, 'only_writer', partial(only_writer, patience=0))
    with only_writer(tmp_path/'maps'):
        with pytest.raises(DataError, match='another program is writing into .*maps'): explain_run(RUN, SCANS[:1], out=tmp_path/'maps', resume=True)
    (tmp_path/'file').write_text('mine')
    with pytest.raises(DataError, match='file is a file: name a folder'): explain_run(RUN, SCANS[:1], out=tmp_path/'file')

def test_a_file_named_as_a_formula_is_told_once_and_keeps_its_name(capsys):
    from fundus_fastai.vision.answers import RowFile
    f = RowFile(out := io.StringIO())
    for k in range(3): f.add(pd.DataFrame(dict(path=[f'=a{k}().png'], p_A=[-.5])))
    assert capsys.readouterr().err.count('formula')==1 and out.getvalue().splitlines()[1:]==[f'=a{k}().png,-0.5' for k in range(3)]
