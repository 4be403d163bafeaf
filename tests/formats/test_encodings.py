"""Encodings, declared and undeclared: text as its writers meant it."""

import random
import unicodedata

import pytest

from tasks.formats.encodings.decode import decode_file, decode_page
from tasks.formats.encodings.html_charset import prescan_charset
from tasks.formats.encodings.whatwg_encodings import codec_of, decode

ONE_LANGUAGE_EACH = {
    "German": "Die alte Mühle am Fluss mahlt den ganzen Tag, und der Bäcker wartet auf das Mehl. Über den Dächern kreisen "
    "große Vögel; die Kinder zählen sie früh am Morgen und wünschen sich Flügel.",
    "French": "Le vieux moulin près de la rivière tourne toute la journée, et le boulanger attend la farine. Après l'été, "
    "les élèves reviennent à l'école où leur maîtresse leur lit des contes français.",
    "Spanish": "El viejo molino junto al río muele todo el día y el panadero espera la harina. Mañana por la mañana los "
    "niños volverán a la escuela; ¿quién les contará qué pasó en otoño?",
    "Polish": "Stary młyn nad rzeką miele przez cały dzień, a piekarz czeka na mąkę. Dzieci wracają ze szkoły późnym "
    "popołudniem i liczą gęsi, które śpią na łące pod żółtymi drzewami.",
    "Czech": "Starý mlýn u řeky mele celý den a pekař čeká na mouku. Děti se odpoledne vracejí ze školy a počítají husy, "
    "které spí na louce pod žlutými stromy, když přijde večer.",
    "Hungarian": "A folyó menti öreg malom egész nap őröl, és a pék várja a lisztet. A gyerekek délután hazamennek az "
    "iskolából, és megszámolják a libákat, amelyek a réten alszanak a sárguló fák alatt.",
    "Turkish": "Nehrin kıyısındaki eski değirmen bütün gün döner ve fırıncı unu bekler. Çocuklar öğleden sonra okuldan "
    "döner, ağaçların altında uyuyan kazları sayar ve akşam olunca şarkı söylerler.",
    "Latvian": "Vecās dzirnavas pie upes maļ visu dienu, un maiznieks gaida miltus. Bērni pēcpusdienā atgriežas no skolas "
    "un skaita zosis, kas guļ pļavā zem dzeltenajiem kokiem.",
    "Greek": "Ο παλιός μύλος δίπλα στο ποτάμι αλέθει όλη την ημέρα και ο φούρναρης περιμένει το αλεύρι. Τα παιδιά γυρίζουν "
    "το απόγευμα από το σχολείο και μετράνε τις χήνες που κοιμούνται στο λιβάδι.",
    "Russian": "Старая мельница у реки мелет весь день, и пекарь ждёт муки. Дети возвращаются из школы после обеда и "
    "считают гусей, которые спят на лугу под жёлтыми деревьями, пока не наступит вечер.",
    "Ukrainian": "Старий млин біля річки меле цілий день, і пекар чекає на борошно. Діти повертаються зі школи після обіду "
    "й рахують гусей, які сплять на лузі під жовтими деревами, поки не настане вечір.",
    "Bulgarian": "Старата мелница край реката мели по цял ден, а хлебарят чака брашното. Децата се връщат от училище "
    "следобед и броят гъските, които спят на ливадата под жълтите дървета.",
    "Hebrew": "הטחנה הישנה ליד הנהר טוחנת כל היום והאופה מחכה לקמח. הילדים חוזרים מבית הספר אחרי הצהריים וסופרים את האווזים "
    "שישנים באחו מתחת לעצים הצהובים עד שיורד הערב.",
    "Arabic": "الطاحونة القديمة على ضفة النهر تدور طوال النهار والخباز ينتظر الدقيق. يعود الأطفال من المدرسة بعد الظهر "
    "ويعدون الإوز الذي ينام في المرج تحت الأشجار الصفراء حتى يأتي المساء.",
    "Thai": "โรงสีเก่าริมแม่น้ำบดแป้งตลอดทั้งวันและคนทำขนมปังกำลังรอแป้งอยู่ เด็กๆ กลับจากโรงเรียนในตอนบ่ายและนับห่านที่นอนหลับอยู่ในทุ่งหญ้า",
    "Vietnamese": "Nhà máy cũ bên sông quay suốt ngày và người thợ bánh chờ bột. Trẻ em trở về từ trường vào buổi chiều.",
    "Japanese": "川のそばの古い水車は一日中粉をひき、パン屋は小麦粉を待っています。子どもたちは午後になると学校から帰り、"
    "黄色い木の下の草原で眠るガチョウを数えます。",
    "Korean": "강가의 오래된 물레방아는 하루 종일 밀을 빻고 빵집 주인은 밀가루를 기다린다. 아이들은 오후에 학교에서 돌아와 "
    "노란 나무 아래 풀밭에서 잠자는 거위를 센다.",
    "Chinese": "河边的老磨坊整天都在磨面，面包师在等着面粉。孩子们下午从学校回来，数着在黄树下的草地上睡觉的鹅，直到夜幕降临。",
    "Taiwanese": "河邊的老磨坊整天都在磨麵，麵包師在等著麵粉。孩子們下午從學校回來，數著在黃樹下的草地上睡覺的鵝，直到夜幕降臨。",
}
ENCODINGS = {
    "German": ("cp1252", "iso8859-15", "cp850"),
    "French": ("cp1252", "iso8859-15"),
    "Spanish": ("cp1252",),
    "Polish": ("cp1250", "iso8859-2"),
    "Czech": ("cp1250", "iso8859-2"),
    "Hungarian": ("cp1250", "iso8859-2"),
    "Turkish": ("cp1254", "iso8859-9"),
    "Latvian": ("cp1257", "iso8859-13"),
    "Greek": ("cp1253", "iso8859-7"),
    "Russian": ("cp1251", "koi8-r", "iso8859-5", "cp866", "cp855", "mac_cyrillic"),
    "Ukrainian": ("cp1251", "koi8-u"),
    "Bulgarian": ("cp1251", "iso8859-5"),
    "Hebrew": ("cp1255", "iso8859-8"),
    "Arabic": ("cp1256", "iso8859-6"),
    "Thai": ("cp874",),
    "Vietnamese": ("cp1258",),
    "Japanese": ("cp932", "euc_jp", "iso2022_jp"),
    "Korean": ("cp949", "euc_kr", "johab", "iso2022_kr"),
    "Chinese": ("gb18030", "gb2312", "hz"),
    "Taiwanese": ("big5", "cp950"),
}
TONES = "\u0300\u0301\u0303\u0309\u0323"
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


def text_in(language: str) -> str:
    """Windows-1258 has the tones as characters of their own."""
    text = ONE_LANGUAGE_EACH[language]
    if language != "Vietnamese":
        return text
    apart = [unicodedata.normalize("NFD", character) for character in text]
    return "".join(
        unicodedata.normalize("NFC", "".join(c for c in letter if c not in TONES))
        + "".join(c for c in letter if c in TONES)
        for letter in apart
    )


@pytest.mark.parametrize(
    ("label", "content", "text"),
    [  # code and character as the indexes of the Encoding Standard have them
        ("Shift_JIS", b"\x87\x40\x81\x60", "①～"),
        ("x-sjis", b"\xfb\xfc", "髙"),
        ("EUC-JP", b"\xad\xa1\xa1\xc1\xfc\xe2\x8f\xb0\xa1\x8e\xb1", "①～髙丂ｱ"),
        ("ISO-2022-JP", b"\x1b$B-!F|\x1b(I1\x1b(Bx", "①日ｱx"),
        ("euc-kr", b"\x8c\x63\xb9\xe6", "똠방"),
        ("ks_c_5601-1987", b"\xc8\xfe", "힝"),
        ("Big5", b"\x88\x62\xfb\x48\x87\xc2\xa1\x45", "Ê̄嘅鿇‧"),
        ("big5-hkscs", b"\xa3\xe1\x9d\xc4", "€拐"),
        ("gb2312", b"\xa2\xa1\x80\xa8\xbc\x95\x32\x82\x36", "ⅰ€ḿ𠀀"),
        ("windows-874", b"\x93\xa1\x94", "“ก”"),
        ("TIS-620", b"\x85", "…"),
        ("x-mac-cyrillic", b"\x80\xa2\xdf\xff", "АҐя€"),
        ("iso-8859-1", b"\x93\xe9\x94", "“é”"),
        ("us-ascii", b"\x80", "€"),
        ("iso-8859-9", b"\x80\xfd", "€ı"),
        ("KOI8-U", b"\xae\xa4", "ўє"),
        ("unicode-1-1-utf-8", "ä".encode(), "ä"),
        ("utf-16", "ä".encode("utf-16-le"), "ä"),
        ("IBM855", b"\xa0", "а"),
    ],
)
def test_a_label_means_what_browsers_take_it_for(label: str, content: bytes, text: str) -> None:
    codec = codec_of(label)
    assert codec is not None
    assert decode(content, codec) == (text, 0)
    assert decode_page(content, f" {label.upper()} ").text == text


@pytest.mark.parametrize(
    "label", ["", "nonsense", "hex", "rot13", "utf-7", "idna", "undefined", "x" * 100, "a\0b", "é"]
)
def test_a_label_that_names_no_encoding(label: str) -> None:
    assert codec_of(label) is None


@pytest.mark.parametrize("language", ONE_LANGUAGE_EACH)
@pytest.mark.parametrize("stray", [b"\xff ", b"\x98 ", b"\xd2 "])
def test_a_stray_byte_costs_one_character_and_never_the_encoding(language: str, stray: bytes) -> None:
    text = text_in(language)
    for codec in (*ENCODINGS[language], "utf-8"):
        if codec in ("iso2022_jp", "iso2022_kr", "hz", "johab"):
            continue
        sound = text.encode(codec)
        cut = len(text[: text.index(" ") + 1].encode(codec)) if " " in text else 0
        found = decode_page(sound[:cut] + stray + sound[cut:], codec)
        before, after = sound[:cut].decode(codec), sound[cut:].decode(codec)
        wrong = found.text.removeprefix(before).removesuffix(" " + after)
        known = decode(stray.strip(), codec_of(codec) or "")
        assert wrong == known[0]
        assert (found.by, found.strays) == ("declared", known[1])


RUSSIAN = ONE_LANGUAGE_EACH["Russian"]


@pytest.mark.parametrize(
    ("head", "label"),
    [
        ('<meta charset="windows-1251">', "windows-1251"),
        ("<META CHARSET = windows-1251 />", "windows-1251"),
        ("<meta charset=windows-1251/>", "windows-1251"),
        ("<meta http-equiv=Content-Type content='text/html; charset=\"windows-1251\"'>", "windows-1251"),
        ("<meta content='text/html;charset=windows-1251;x' http-equiv='content-type'>", "windows-1251"),
        ("<!-- <meta charset=windows-1252> --><meta charset=windows-1251>", "windows-1251"),
        ("<!--> <meta charset=windows-1251>", "windows-1251"),
        ("<script>w('<meta charset=windows-1252>')</script><meta charset=windows-1251>", "windows-1251"),
        ("<style>/* <meta charset=koi8-r> */</style ><meta charset=windows-1251>", "windows-1251"),
        ("<title><meta charset=koi8-r></title><meta charset=windows-1251>", "windows-1251"),
        ("<p title='<meta charset=koi8-r>'><meta charset=windows-1251>", "windows-1251"),
        ("<p title=don't><meta charset=windows-1251><p title='>", "windows-1251"),
        ("<meta name=description content='of charset=koi8-r'><meta charset=windows-1251>", "windows-1251"),
        ("<meta data-x='a>b' charset=windows-1251>", "windows-1251"),
        ("<metadata charset=koi8-r><meta charset=windows-1251>", "windows-1251"),
        ("<script>" + "x" * 20000 + "</script><meta charset=windows-1251>", "windows-1251"),
        ("<?xml version='1.0' encoding='windows-1251'?><html>", "windows-1251"),
        ("<meta charset=utf-16le>", "utf-8"),
        ("<meta http-equiv=Content-Type content='text/html; charset=unicode'>", "utf-8"),
        ("<body>" + "x" * 1024 + "<meta charset=windows-1251>", ""),
        ("<!-- <meta charset=windows-1251>", ""),
        ("<script> <meta charset=windows-1251>", ""),
        ("<meta charset=>", ""),
        ("<p>charset=windows-1251", ""),
    ],
)
def test_the_charset_in_a_page(head: str, label: str) -> None:
    page = head.encode()
    assert prescan_charset(page) == label
    if label == "windows-1251":
        page += b"<p>" + RUSSIAN.encode("windows-1251")
        assert decode_page(page).by == "declared"
        assert RUSSIAN in decode_page(page).text


@pytest.mark.parametrize("opened", ["<a", "<!--", "<script>", "<meta ", "<meta a='", "='", '<p ="', "<meta x='\"", "="])
def test_a_page_that_closes_nothing_is_looked_through_once(opened: str) -> None:
    assert prescan_charset((opened * 60000).encode()) == ""


def test_declarations_in_their_order() -> None:
    ambiguous = "é".encode()  # valid UTF-8, and two characters of Windows-1252
    assert decode_page(b"<meta charset=latin1>" + ambiguous).text.endswith("Ã©")  # the page's label, before UTF-8
    assert decode_page(b"<meta charset=latin1>" + ambiguous, "utf-8").text.endswith("é")  # HTTP's before the page's
    assert decode_page(b"<meta charset=latin1>" + ambiguous, html=False).text.endswith("é")  # plain text has no markup
    russian = b"<meta charset=windows-1251>" + RUSSIAN.encode("windows-1251")
    assert RUSSIAN in decode_page(russian, "utf-8").text  # a declaration that nothing fits is none
    assert RUSSIAN in decode_page(b"<meta charset=koi8-r>" + RUSSIAN.encode("utf-8-sig")[3:], "utf-8").text
    assert decode_page(b"<p>plain ASCII", "unicode").text == "<p>plain ASCII"  # no UTF-16, whatever is said
    assert decode_page("<p>ä и".encode("utf-16-be"), "utf-16").text == "<p>ä и"
    alone = decode_page(b"<p>caf\xe9 au lait", "utf-8")
    assert (alone.text, alone.label) == ("<p>caf� au lait", "utf-8 (declared, stray bytes)")


@pytest.mark.parametrize("language", ONE_LANGUAGE_EACH)
def test_an_encoding_that_nobody_declared_is_found(language: str) -> None:
    text = text_in(language)
    for codec in (*ENCODINGS[language], *WIDE, "utf-8"):
        for whole in (text, 20 * f"{text}\r\n"):
            content = whole.encode(codec)
            found = decode_file(content)
            assert found is not None, codec
            assert found.text == content.decode(codec), (codec, found.label)
            assert decode_page(content) == found


@pytest.mark.parametrize("language", ["Japanese", "Korean", "Chinese", "Taiwanese", "Thai"])
def test_stray_bytes_in_what_nobody_declared(language: str) -> None:
    text = ONE_LANGUAGE_EACH[language]
    for codec in (ENCODINGS[language][0], "utf-8"):
        sound = (text + "\n").encode(codec)
        found = decode_file(sound + b"\xfe\n" + sound)
        assert found is not None
        assert found.text == f"{text}\n�\n{text}\n", (codec, found.label)


def test_what_is_no_text_is_none() -> None:
    noise = random.Random(7).randbytes(5000)
    assert decode_file(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + noise) is None
    assert decode_file(b"\x7fELF\2\1\1" + b"\0" * 9 + noise[:1000]) is None
    assert decode_file(b"\0" * 1000) is None
    assert decode_file(bytes(number for pair in enumerate(range(100)) for number in pair)) is None


def test_a_declaration_of_the_user_is_kept() -> None:
    assert decode_file("naïve ①".encode("cp932", "ignore") + b"\x87\x40", "shift_jis") is not None
    found = decode_file(RUSSIAN.encode("cp1251") + b"\x98", "windows-1251")
    assert found is not None
    assert (found.text, found.strays) == (RUSSIAN + "�", 1)
    assert decode_file(RUSSIAN.encode("cp1251"), "utf-8") is None


@pytest.mark.parametrize("language", ["German", "French", "Spanish", "Polish"])
def test_letters_that_stand_alone_are_no_chinese(language: str) -> None:
    for codec in ("mac_roman", "cp850", "cp1252", "mac_latin2", "cp852"):
        found = decode_page(50 * ONE_LANGUAGE_EACH[language].encode(codec, "ignore"))
        assert not any("\u3000" <= character <= "\ud7ff" for character in found.text), found.label


def test_only_a_stretch_of_a_large_text_is_looked_at() -> None:
    content = b"plain text " * 200_000 + 3 * RUSSIAN.encode("cp1251")
    found = decode_file(content)
    assert found is not None
    assert (found.encoding, found.text) == ("cp1251", content.decode("cp1251"))
    japanese = ONE_LANGUAGE_EACH["Japanese"].replace("、", "") * 20_000
    found = decode_file(japanese.encode("euc_jp"))
    assert found is not None
    assert (found.encoding, found.text) == ("euc_jp", japanese)
