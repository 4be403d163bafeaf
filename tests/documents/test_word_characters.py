"""One notion of a word character: marks belong to words wherever words, letters or symbols are counted."""

import re
import sys
import unicodedata

import pytest
import regex
from rouge_score.rouge_scorer import RougeScorer

from tasks.clean import text_measures
from tasks.clean.dropped_lines import DroppedLines
from tasks.clean.language import detect_language
from tasks.clean.quality_filters import FilterParams, apply_filters
from tasks.clean.rules.bad_words import BadWords
from tasks.clean.rules.tokenized_text import TokenizedText
from tasks.clean.scores import quality_classifier
from tasks.clean.scores.perplexity import tokenize
from tasks.documents.word_characters import INVISIBLE, is_word_character, letters_only, word_runs
from tasks.evaluate.answer_metrics import RougeL
from tasks.similarity.shingles import IN_WORD, LAST_CODE_POINT, SEPARATOR, character_classes
from tasks.tokenizer.fertility import has_only_letters

PROSE = {  # language: two sentences about rivers and schools in its script
    "ar": "يَجْرِي النَّهْرُ بِالْقُرْبِ مِنَ الْمَدِينَةِ. يَذْهَبُ الْأَطْفَالُ إِلَى الْمَدْرَسَةِ كُلَّ يَوْمٍ سَيْرًا عَلَى الْأَقْدَامِ.",
    "bn": "নদীটি শহরের কাছ দিয়ে বয়ে যায়। শিশুরা প্রতিদিন হেঁটে বিদ্যালয়ে যায় এবং বিকেলে বাড়ি ফিরে আসে।",
    "bo": "གཙང་པོ་དེ་གྲོང་ཁྱེར་གྱི་ཉེ་འགྲམ་ནས་རྒྱུགས་ཀྱི་ཡོད། བྱིས་པ་རྣམས་ཉིན་ལྟར་སློབ་གྲྭར་འགྲོ་ཞིང་ཕྱི་དྲོ་ནང་དུ་ལོག་ཡོང་།",
    "gu": "નદી શહેરની નજીકથી વહે છે. બાળકો દરરોજ ચાલીને શાળાએ જાય છે અને સાંજે ઘરે પાછા આવે છે.",
    "he": "הַנָּהָר זוֹרֵם לְיַד הָעִיר. הַיְּלָדִים הוֹלְכִים בְּכׇל יוֹם לְבֵית הַסֵּפֶר וְחוֹזְרִים הַבַּיְתָה בָּעֶרֶב.",
    "hi": "नदी शहर के पास से बहती है। बच्चे हर दिन पैदल विद्यालय जाते हैं और शाम को घर लौट आते हैं।",
    "km": "ទន្លេហូរកាត់ក្បែរទីក្រុង។ ក្មេងៗដើរទៅសាលារៀនជារៀងរាល់ថ្ងៃ ហើយត្រឡប់មកផ្ទះវិញនៅពេលល្ងាច។",
    "kn": "ನದಿ ನಗರದ ಹತ್ತಿರ ಹರಿಯುತ್ತದೆ. ಮಕ್ಕಳು ಪ್ರತಿದಿನ ನಡೆದುಕೊಂಡು ಶಾಲೆಗೆ ಹೋಗುತ್ತಾರೆ ಮತ್ತು ಸಂಜೆ ಮನೆಗೆ ಮರಳುತ್ತಾರೆ.",
    "ml": "നദി നഗരത്തിനടുത്തുകൂടി ഒഴുകുന്നു. കുട്ടികൾ എല്ലാ ദിവസവും നടന്ന് സ്കൂളിൽ പോകുകയും വൈകുന്നേരം വീട്ടിലേക്ക് മടങ്ങുകയും ചെയ്യുന്നു.",
    "mr": "नदी शहराजवळून वाहते. मुले दररोज चालत शाळेत जातात आणि संध्याकाळी घरी परत येतात, असे त्यांनी सांगितले.",
    "my": "မြစ်သည် မြို့အနီးတွင် စီးဆင်းသည်။ ကလေးများသည် နေ့စဉ် ကျောင်းသို့ လမ်းလျှောက်သွားကြပြီး ညနေတွင် အိမ်ပြန်လာကြသည်။",
    "si": "ගඟ නගරය අසලින් ගලා යයි. ළමයි සෑම දිනකම පයින් පාසල් ගොස් සවස ගෙදර පැමිණෙති. ඔවුහු රාත්‍රියේ පොත් කියවති.",
    "ta": "ஆறு நகரத்தின் அருகே ஓடுகிறது. குழந்தைகள் தினமும் நடந்து பள்ளிக்குச் சென்று மாலையில் வீடு திரும்புகிறார்கள்.",
    "te": "నది నగరం దగ్గర ప్రవహిస్తుంది. పిల్లలు ప్రతిరోజూ నడిచి పాఠశాలకు వెళ్లి సాయంత్రం ఇంటికి తిరిగి వస్తారు.",
    "th": "แม่น้ำไหลผ่านใกล้เมือง เด็กๆ เดินไปโรงเรียนทุกวันและกลับบ้านในตอนเย็นพร้อมกับเพื่อนๆ ของพวกเขา",
}


@pytest.mark.parametrize("language", PROSE)
def test_prose_with_marks_stays_and_is_known(language: str) -> None:
    text = PROSE[language]
    stays, found = apply_filters(text, FilterParams(languages=(language,)), False, DroppedLines())
    assert (stays, found[0]) == (text, language)
    assert (
        text_measures.symbol_ratio(text_measures.count_characters(text)) < 0.3
    )  # Tibetan ends each syllable with a sign


def test_the_notion_is_that_of_unicode_for_every_character() -> None:
    """The package regex knows the general categories by itself."""
    by_category = regex.compile(r"[\p{Alphabetic}\p{L}\p{M}\p{N}\u200c\u200d]")
    assigned = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    word = [c for c in assigned if is_word_character(c)]
    assert set(word) <= set(filter(by_category.match, assigned))
    assert set(filter(regex.compile(r"[\p{L}\p{M}\p{Nd}\u200c\u200d]").match, assigned)) <= set(word)
    assert set("".join(word_runs(" ".join(assigned)))) == {*word, "_"}
    classes = character_classes()
    for character in map(chr, range(LAST_CODE_POINT)):
        assert (classes[ord(character)] != SEPARATOR) == (is_word_character(character) or character == "_")
    assert set(word) >= INVISIBLE


def test_words_are_not_cut_at_marks() -> None:
    hindi, persian = "नदी शहर के पास से बहती है", "می\u200cخواهم کتاب\u200cها را"
    for text in (hindi, persian):
        words = text.split()
        assert word_runs(text) == tokenize(text) == words
        page = TokenizedText(text)
        assert [page.word(index) for index in range(len(words))] == words
        assert all(map(has_only_letters, words))
        assert letters_only(f"{text} 12, 3_4!") == text
        assert [character_classes()[ord(character)] == IN_WORD for character in text] == [c != " " for c in text]
    assert not has_only_letters("क2")
    assert quality_classifier._words(hindi) == [word for word in hindi.split() if len(word) > 1]


def test_a_bad_word_is_whole_with_its_marks() -> None:
    words = BadWords({"hi": ("कम",)})
    assert words.check("यहाँ पानी की कमी है", "hi") is None
    assert words.check("यहाँ पानी कम है", "hi") == ("c4_bad_word", "कम")


def test_rouge_is_the_package_s_in_ascii_and_knows_other_scripts() -> None:
    said, wanted = "The foxes_were running, 3 times (quickly)!", "A fox was running 3 times"
    for stemmer in (False, True):
        theirs = RougeScorer(["rougeL"], use_stemmer=stemmer).score(wanted, said)["rougeL"].fmeasure
        assert RougeL(stemmer)(said, wanted) == theirs
    assert RougeL(False)("नदी बहती है", "नदी बहती है") == 1
    assert RougeL(False)("नदी बहती", "नदी सूखी") == 0.5


def test_language_is_told_by_words_not_by_signs() -> None:
    assert detect_language("12 34 !! __ 5", 0.5, 1) == (None, None)
    assert re.fullmatch("[a-z ]*", letters_only("abc_12 d3e"))
